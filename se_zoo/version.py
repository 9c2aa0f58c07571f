"""The version, which files of figures name."""

__version__ = "0.1.0"
