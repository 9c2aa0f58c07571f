"""The version, which files of figures name."""

__version__ = "0.2.0"

#: Versions that this version was tested with, of packages whose names it uses beyond the public
#: ones, or that change often.
TESTED = {
    "timm": "1.0.31", "torch": "2.14.1", "torchvision": "0.29.1", "huggingface_hub": "2.4.0",
}  # fmt: skip
