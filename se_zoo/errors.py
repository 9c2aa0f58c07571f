"""Errors of se_zoo: every one names what was wrong and how to mend it.

They derive from the built-in class a caller would catch anyway (``ValueError`` for bad input,
``RuntimeError`` for weights that cannot be had), so no one has to know this module.
"""


class SEZooError(Exception):
    """Base class of all errors that se_zoo raises on purpose."""


class InvalidInputError(SEZooError, ValueError):
    """Images, targets or options that cannot be explained (wrong shape, NaN, unknown method)."""


class DataError(SEZooError, ValueError):
    """A data set that is not as it was declared: splits, columns, classes, files or pixels."""


class UnknownLabelError(SEZooError, ValueError):
    """A target that is neither a class index nor a label name of the model."""


class UnknownModelError(SEZooError, ValueError):
    """A model name that neither se_zoo nor timm knows."""


class UnsupportedBackboneError(SEZooError, ValueError):
    """A backbone whose features have no grid or no single channel axis to squeeze."""


class WeightsNotFoundError(SEZooError, RuntimeError):
    """Pretrained weights that are declared but could not be fetched or read."""
