"""Define the errors of se_zoo. Each message says what is wrong and what to do.

They derive from built-in classes, so callers can catch those: ``ValueError`` for bad input,
``RuntimeError`` for weights that cannot be loaded.
"""

from typing import Optional

from .version import TESTED, __version__


class SEZooError(Exception):
    """Base class of all errors that se_zoo raises on purpose."""


class SEZooWarning(UserWarning):
    """Something that worked, but perhaps not as it was meant."""


class InvalidInputError(SEZooError, ValueError):
    """Images, targets or options are invalid (wrong shape, NaN, unknown method)."""


class UnknownArgumentError(InvalidInputError, TypeError):
    """A function, or the backbone of a model, does not take an argument."""


class DataError(SEZooError, ValueError):
    """A data set differs from its declaration: splits, columns, classes, files or pixels."""


class UnknownLabelError(SEZooError, ValueError):
    """A target is neither a class index nor a label name of the model."""


class UnknownModelError(SEZooError, ValueError):
    """Neither se_zoo nor timm knows the name of a model."""


class UnsupportedBackboneError(SEZooError, ValueError):
    """The features of a backbone have no grid or no single channel axis to squeeze."""


class WeightsNotFoundError(SEZooError, RuntimeError):
    """Pretrained weights do not exist, cannot be fetched or read, or do not fit."""


def other_version(error: ImportError) -> Optional[str]:
    """Say that the installed version of a package lacks a name that se_zoo imports.

    Args:
        error: What an import raised.

    Returns:
        A message with the versions and the fix, that of the error if it has it already; None for an
        error of another kind.
    """
    from importlib.metadata import PackageNotFoundError, version

    name, text = error.name or "", str(error)
    package = name.partition(".")[0]
    reason = f"lacks a name that se_zoo {__version__} uses"
    if reason in text:
        return text
    no_module = isinstance(error, ModuleNotFoundError) and name != package
    if package not in TESTED or not (no_module or text.startswith("cannot import name")):
        return None
    try:
        found = version(package)
    except PackageNotFoundError:
        return None
    return (
        f"{text}: {package} {found} {reason}. Install a newer se_zoo (pip install -U se_zoo), or "
        f"the version that it was tested with (pip install {package}=={TESTED[package]})."
    )
