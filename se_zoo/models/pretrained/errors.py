"""Turn failed downloads and unreadable weights into one error with the cause and the next step."""

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError

from ...errors import (
    InvalidInputError,
    SEZooError,
    UnknownArgumentError,
    UnknownModelError,
    WeightsNotFoundError,
)
from ...explanations.se_model import is_of_machine
from .fetch import WEIGHTS_NAME, source_name
from .fit_check import is_described
from .hub_errors import CONNECTION_ERROR, as_sentence, next_step

#: What builders raise for options that they do not take. A missing package is none of these.
_OF_OPTIONS = (
    TypeError, ValueError, AssertionError, LookupError, AttributeError, ArithmeticError,
    RuntimeError,
)  # fmt: skip
#: Options of timm's builder that nobody gave.
_NOT_GIVEN = ("pretrained_model_args",)


@contextmanager
def clear_errors(
    variant: str,
    cfg: Dict[str, Any],
    cache_dir: Any = None,
    options: Optional[Mapping[str, Any]] = None,
) -> Iterator[None]:
    """Turn errors of building a model and loading its weights into one that says what to do.

    Args:
        variant: Registry name of the architecture.
        cfg: The pretrained config whose weights are being loaded.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.
        options: Arguments that the model is built with.

    Yields:
        Nothing.

    Raises:
        WeightsNotFoundError: If a download fails, or a file cannot be read or does not fit; it
            quotes the original error.
        UnknownModelError: If a config.json describes no model that can be built.
        InvalidInputError: If the model cannot be built with the options;
            :class:`UnknownArgumentError` if it does not take one of them.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except SEZooError as error:
        if isinstance(error, InvalidInputError) and is_described(cfg):
            raise _not_described(cfg, error) from error
        raise
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            if (clear := _unbuilt(variant, cfg, options or {}, error)) is None:
                raise
            raise clear from error
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        first = next((line for line in lines if "size mismatch" in line), lines[0])
        first = first if len(first) <= 300 else f"{first[:297]}..."
        raise WeightsNotFoundError(
            f"The weights from {source_name(cfg)} do not fit {variant} as it is described by their "
            f"config.json or by the arguments given. {first}"
        ) from error
    except (OSError, HFValidationError, SafetensorError, CONNECTION_ERROR) as error:
        tag = cfg.get("tag") or ""
        name = f"{variant}.{tag}" if tag else variant
        url = str(cfg.get("url") or "")
        if url.endswith(".pth") and url in source_name(cfg):  # torchvision's
            raise WeightsNotFoundError(
                f"The weights of {name} could not be loaded from {url}. {type(error).__name__}: "
                f"{as_sentence(error)} Download that file and put it into "
                f"{cache_dir or Path(torch.hub.get_dir()) / 'checkpoints'}."
            ) from error
        raise WeightsNotFoundError(
            f"The weights of {name} could not be loaded from {source_name(cfg)}."
            f" {type(error).__name__}: {as_sentence(error)}"
            f" {next_step(error, source_name(cfg), cache_dir)}"
            f"se_zoo loads {WEIGHTS_NAME} only."
            " Use pretrained=False for random weights."
        ) from error
    except Exception as error:  # a builder of timm raises anything for arguments out of a file
        if (clear := _unbuilt(variant, cfg, options or {}, error)) is None:
            raise
        raise clear from error


def _unbuilt(
    variant: str, cfg: Dict[str, Any], options: Mapping[str, Any], error: Exception
) -> Optional[SEZooError]:
    """Return the error for a model that cannot be built; None if no option can be the cause."""
    if is_described(cfg):
        return _not_described(cfg, error)
    given = [f"{k}={v!r}" for k, v in options.items() if k not in _NOT_GIVEN and v is not None]
    if not given or not isinstance(error, _OF_OPTIONS) or is_of_machine(error):
        return None
    kind = UnknownArgumentError if isinstance(error, TypeError) else InvalidInputError
    named = ", ".join(text if len(text) <= 80 else f"{text[:77]}..." for text in given)
    return kind(
        f"{variant} cannot be made with {named}. {type(error).__name__}: {_reason(error)} Change "
        "or leave out what it does not take."
    )


def _reason(error: Exception) -> str:
    """Return an error's text as a sentence; of an assertion without one, what it asserts."""
    frames = traceback.extract_tb(error.__traceback__)
    return as_sentence(error if str(error) or not frames else ValueError(frames[-1].line))


def _not_described(cfg: Dict[str, Any], error: Exception) -> UnknownModelError:
    """Return the error for a config.json of which no model can be built."""
    return UnknownModelError(
        f"The config.json of {source_name(cfg)}, or an argument given, describes no model that "
        f"can be built. {type(error).__name__}: {_reason(error)}"
    )
