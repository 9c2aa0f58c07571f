"""Check what a model's config says: the one reading for timm's names, the Hub and the command line.

A config comes from a repository or folder that anybody may have written. Its values are checked
before anything is allocated by them: sizes have upper bounds, labels are texts, and numbers that
are stated twice agree.
"""

import math
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import timm

from ...errors import UnknownModelError, WeightsNotFoundError
from ...files import read_json
from .hub_errors import CONNECTION_ERROR, unreachable

#: Largest config.json that is read, in bytes. That of 21,843 ImageNet labels has 1 MB.
MAX_CONFIG_BYTES = 16_000_000
#: Largest height or width of an input, in pixels, and largest number of its channels.
MAX_SIDE, MAX_CHANNELS = 4096, 1024
#: Largest number of classes.
MAX_CLASSES = 1_000_000
#: Largest number in model arguments, and largest sum of a list of them (layers of a stage).
MAX_ARGUMENT = 1_000_000
#: How deep lists and objects of model arguments may lie in each other.
_MAX_DEPTH = 8

#: Largest share of labels that have another's name: ImageNet-1k has two cranes and two maillots.
_EQUAL_NAMES = 0.01

_INTERPOLATIONS = (
    "bilinear", "bicubic", "nearest", "lanczos", "box", "hamming", "random",
)  # fmt: skip
#: How photos are cropped, in timm's words.
CROP_MODES = ("center", "squash", "border")
#: Smallest and largest values of the normalisation, on any scale that pixels have.
_MEAN, _STD, _CROP_PCT = (-255.0, 255.0), (1e-4, 255.0), (0.05, 2.0)
#: Errors of reading a broken config.json, or of creating the model that it describes.
_UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError,
)  # fmt: skip


def read_config(file: Path) -> Dict[str, Any]:
    """Read a config.json.

    Args:
        file: The file.

    Returns:
        Its content.

    Raises:
        UnknownModelError: If it is not a file of at most 16 MB, or holds no JSON object.
        OSError: If it cannot be opened.
    """
    if file.exists() and not file.is_file():
        raise UnknownModelError(f"{file} is not a regular file.")
    if (size := file.stat().st_size) > MAX_CONFIG_BYTES:
        raise UnknownModelError(
            f"{file} has {size:,} bytes; a config.json has at most {MAX_CONFIG_BYTES:,}."
        )
    try:
        content = read_json(file)
    except ValueError as error:
        raise UnknownModelError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnknownModelError(f"{file} must hold a JSON object, not a {type(content).__name__}.")
    return content


def not_fetched(name: str, hint: str) -> WeightsNotFoundError:
    """Return the error for a config.json that the Hub did not give.

    Args:
        name: Its repository.
        hint: What to do.
    """
    return WeightsNotFoundError(f"The config.json of {name} could not be fetched. {hint}")


_Description = Tuple[Dict[str, Any], str, Dict[str, Any]]


def checked(read: Callable[..., Any], read_first: bool) -> Callable[..., _Description]:
    """Return one of timm's readers of a config.json, with its errors and values checked.

    Args:
        read: timm's function; it returns pretrained config, architecture and model arguments.
        read_first: Whether its argument is a folder, whose file is looked at first.

    Returns:
        A function of the same arguments. It raises UnknownModelError for a file that is missing or
        not a config, and WeightsNotFoundError if the Hub cannot be reached. Values are checked if
        the architecture has an SE head; others are timm's.
    """

    def reader(place: Any, *args: Any, **kwargs: Any) -> _Description:
        if read_first and (file := Path(place) / "config.json").is_file():
            read_config(file)
        elif read_first and (Path(place) / "export" / "config.json").is_file():
            raise UnknownModelError(
                f"{place} has no config.json: it is the folder of a run, whose model is in "
                f"local-dir:{Path(place) / 'export'}"
            )
        try:
            cfg, architecture, model_args = read(place, *args, **kwargs)
        except (OSError, CONNECTION_ERROR) as error:  # the Hub's client has ValueErrors, too
            if not read_first:
                if hint := unreachable(error):
                    raise not_fetched(place, hint) from error
                raise
            raise UnknownModelError(f"{place} has no config.json to read: {error}") from error
        except _UNREADABLE as error:
            if type(error).__module__.partition(".")[0] == "huggingface_hub":
                raise
            raise UnknownModelError(
                f"The config.json of {place} is not one that timm wrote. "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(cfg, dict) or not isinstance(architecture, str):
            raise UnknownModelError(f"The config.json of {place} is not one that timm wrote.")
        if not timm.is_model(architecture):
            raise UnknownModelError(
                f"Unknown model {architecture[:80]!r} in the config.json of {place}: neither "
                "se_zoo nor timm has it."
            )
        if "_sehead" in architecture:
            check_description(cfg, model_args, f"The config.json of {place}")
        return cfg, architecture, model_args

    reader._se_zoo = True  # type: ignore[attr-defined]
    return reader


def check_description(cfg: Mapping[str, Any], model_args: Any, place: str) -> None:
    """Check a pretrained config and the model arguments beside it.

    Args:
        cfg: Pretrained config as timm parses it.
        model_args: Arguments of the architecture, or None.
        place: What is read, to begin a sentence.

    Raises:
        UnknownModelError: If a value cannot be, or two of them disagree.
    """
    check_config(cfg, place)
    if model_args is not None and not isinstance(model_args, dict):
        raise UnknownModelError(
            f"{place} is wrong: model_args must be a JSON object, not {model_args!r}."
        )
    args = model_args or {}
    check_arguments_size(args, place)
    stated, given = cfg.get("num_classes"), args.get("num_classes")
    if given is not None and stated is not None and given != stated:
        raise UnknownModelError(
            f"{place} contradicts itself: num_classes is {stated!r}, and in model_args {given!r}."
        )
    if not isinstance(multi_label := args.get("multi_label", False), bool):
        raise UnknownModelError(
            f"{place} is wrong: multi_label must be true or false, not {_short(multi_label)}."
        )


def check_config(cfg: Mapping[str, Any], place: str) -> None:
    """Check a pretrained config.

    Args:
        cfg: The config, as a dictionary.
        place: What is read, to begin a sentence.

    Raises:
        UnknownModelError: If a value cannot be.
    """
    try:
        _check_numbers(cfg)
        _check_texts(cfg)
        check_label_names(cfg.get("label_names"), cfg.get("num_classes"))
    except ValueError as error:
        raise UnknownModelError(f"{place} is wrong: {error}") from None


def check_label_names(names: Any, num_classes: Optional[int]) -> None:
    """Check label names.

    Args:
        names: What is given as names; None for none.
        num_classes: Number of classes; with 0 or None any number of names will do.

    Raises:
        ValueError: If they are not a list of non-empty texts, one for each class, or more than one
            in a hundred is the same as another.
    """
    if names is None:
        return
    if not isinstance(names, (list, tuple)):
        raise ValueError(
            f"label_names must be a list of texts in the order of the classes, not {_short(names)}."
        )
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"label_names must be texts that are not empty; that of class {index} is "
                f"{_short(name)}."
            )
    if len(names) - len(set(names)) > _EQUAL_NAMES * len(names):
        first = next(name for i, name in enumerate(names) if name in names[:i])
        where = ", ".join(str(i) for i, name in enumerate(names) if name == first)
        raise ValueError(
            f"label_names must differ; {_short(first)} is the name of the classes {where}."
        )
    if num_classes and len(names) != num_classes:
        raise ValueError(
            f"label_names has {len(names)} names for {num_classes} classes; give one for each."
        )


def _check_numbers(cfg: Mapping[str, Any]) -> None:
    """Check sizes, counts and the normalisation; raise ValueError."""
    classes = cfg.get("num_classes")
    if classes is not None:
        _whole("num_classes", classes, 0, MAX_CLASSES)
    if cfg.get("label_offset") is not None:
        _whole("label_offset", cfg["label_offset"], 0, MAX_CLASSES)
    for name in ("input_size", "test_input_size", "min_input_size"):
        size = cfg.get(name)
        if size is None:
            continue
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            raise ValueError(f"{name} must be channels, height and width, not {_short(size)}.")
        _whole(f"channels of {name}", size[0], 1, MAX_CHANNELS)
        for side in size[1:]:
            _whole(f"height and width of {name}", side, 1, MAX_SIDE)
    channels = (cfg.get("input_size") or (3,))[0]
    for name, (low, high) in (("mean", _MEAN), ("std", _STD)):
        values = cfg.get(name)
        if values is None:
            continue
        if not isinstance(values, (list, tuple)) or len(values) not in (1, 3, channels):
            raise ValueError(f"{name} must be one number a channel, not {_short(values)}.")
        for value in values:
            _number(name, value, low, high)
    for name in ("crop_pct", "test_crop_pct"):
        if cfg.get(name) is not None:
            _number(name, cfg[name], *_CROP_PCT)
    for name in ("pool_size", "test_pool_size"):
        size = cfg.get(name)
        if size is not None:
            if not isinstance(size, (list, tuple)):
                raise ValueError(f"{name} must be a list of numbers, not {_short(size)}.")
            for side in size:
                _whole(name, side, 1, MAX_SIDE)


def _check_texts(cfg: Mapping[str, Any]) -> None:
    """Check names and choices; raise ValueError."""
    for name, choices in (("interpolation", _INTERPOLATIONS), ("crop_mode", CROP_MODES)):
        if (value := cfg.get(name)) and value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {_short(value)}.")
    for name in ("tag", "architecture", "file", "hf_hub_id", "hf_hub_filename", "source"):
        value = cfg.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} must be a text, not {_short(value)}.")
    for name in ("classifier", "first_conv"):
        value = cfg.get(name)
        several = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not all(isinstance(v, str) for v in several):
            raise ValueError(f"{name} must be the name of a layer, not {_short(value)}.")
    fixed = cfg.get("fixed_input_size")
    if fixed is not None and not isinstance(fixed, bool):
        raise ValueError(f"fixed_input_size must be true or false, not {_short(fixed)}.")


def check_arguments_size(args: Mapping[str, Any], place: str) -> None:
    """Check that no model argument of a config.json asks for an endless model.

    Args:
        args: Arguments of the architecture.
        place: What is read, to begin a sentence.

    Raises:
        UnknownModelError: If a number, or the sum of a list of numbers, is above 1,000,000 or
            not finite, or lists lie more than eight deep in each other.
    """
    for name, value in args.items():
        try:
            _check_size(value, 0)
        except ValueError as error:
            raise UnknownModelError(f"{place} is wrong: {name} in model_args {error}") from None


def _check_size(value: Any, depth: int) -> None:
    """Check a value of a model argument; raise ValueError."""
    if depth > _MAX_DEPTH:
        raise ValueError("has lists in lists in lists without end.")
    if isinstance(value, (int, float)) and not abs(value) <= MAX_ARGUMENT:
        raise ValueError(f"is {_short(value)}; at most {MAX_ARGUMENT:,} is accepted.")
    if isinstance(value, (list, tuple)):
        numbers = [v for v in value if isinstance(v, (int, float))]
        if len(value) > MAX_ARGUMENT or sum(map(abs, numbers)) > MAX_ARGUMENT:
            raise ValueError(f"adds up to more than {MAX_ARGUMENT:,}: {_short(value)}.")
    inner: Sequence[Any] = ()
    if isinstance(value, (list, tuple)):
        inner = value
    elif isinstance(value, dict):
        inner = list(value.values())
    for item in inner:
        _check_size(item, depth + 1)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(
            f"{name} must be a whole number from {low:,} to {high:,}, not {_short(value)}."
        )


def _number(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be numbers from {low:g} to {high:g}, not {_short(value)}.")


def _short(value: Any) -> str:
    """Return a value as text, cut where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep, or an integer of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
