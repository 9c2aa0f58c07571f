"""The version, which files of figures name."""

__version__ = "0.2.0"
