"""The record of what predictions are of, so that only the same command goes on with them."""

import json
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple

from ...errors import InvalidInputError, SEZooWarning
from ...files import read_json, write_json
from ...version import __version__

MANIFEST = "predict.json"
#: Version of the columns and of the manifest.
FORMAT = 1


def read_manifest(folder: Path) -> Dict[str, Any]:
    """Return the manifest of a folder of predictions.

    Args:
        folder: The folder.

    Returns:
        ``facts``, which decide about the rows, and ``info``.

    Raises:
        InvalidInputError: If there is none, it cannot be read, or its rows have another format.
    """
    file = folder / MANIFEST
    try:
        found: Dict[str, Any] = read_json(file)
        facts, info = found["facts"], found["info"]
        parts = [facts["model"], facts["source"], facts["rows"], info]
        rows = facts["rows"]["rows_per_file"]
        if not all(isinstance(part, dict) for part in parts):
            raise ValueError("an entry is not a JSON object")
        if not isinstance(rows, int) or rows < 1:
            raise ValueError(f"rows_per_file is {rows!r}")
        if (found_format := facts.get("format", FORMAT)) != FORMAT:
            made_by = info.get("se_zoo", "another version")
            # Read on, its rows would seem damaged, which one is told to remove.
            raise ValueError(
                f"it has format {found_format!r:.80}, and se_zoo {__version__} reads format "
                f"{FORMAT}; read it with the version that made it, se_zoo {made_by!s:.80}"
            )
        return {"facts": facts, "info": info}
    except FileNotFoundError:
        raise InvalidInputError(
            f"{folder} has no {MANIFEST}: it is no folder of se-zoo predict."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{file} cannot be read: {error}") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that predictions cannot go to, as far as that is known without the model.

    Args:
        folder: Where the predictions go; it need not exist.

    Raises:
        InvalidInputError: If it is a file, or holds other files and no predictions.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"--out {folder} is a file; name a folder.")
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    foreign = sorted(p.name for p in folder.iterdir() if not p.name.endswith(".tmp"))
    if foreign and not (folder / MANIFEST).exists():  # another process may have written it
        raise InvalidInputError(
            f"{folder} holds {foreign[0]} and no {MANIFEST}; give --out a new folder."
        )


def made_with(model: Any) -> Dict[str, str]:
    """Return what rows may differ by that are of the same photos, weights and options.

    Args:
        model: The model, on its device.

    Returns:
        Versions of the packages that read photos and compute maps, and the kind of device.
    """
    import PIL
    import timm
    import torch

    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"se_zoo": __version__, "torch": str(torch.__version__), "timm": timm.__version__,
            "pillow": PIL.__version__, "device": name}  # fmt: skip


def begin(
    folder: Path, facts: Mapping[str, Any], info: Mapping[str, Any], made: Mapping[str, str]
) -> None:
    """Write the manifest of a new folder, or compare that of a folder to go on with.

    Several processes may do so at the same time. Warns with :class:`~se_zoo.SEZooWarning` if the
    folder was begun with other versions or on another device, so that its rows may differ from
    those to come.

    Args:
        folder: Where the predictions go; it is made if it does not exist.
        facts: What decides about the rows, as JSON can store it.
        info: What does not, such as where the source lies.
        made: Result of :func:`made_with`.

    Raises:
        InvalidInputError: If the folder holds other files, or predictions of something else.
    """
    facts = json.loads(json.dumps({"format": FORMAT, **facts}))
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).exists():
        write_json(folder / MANIFEST, {"facts": facts, "info": {**info, **made}})
    manifest = read_manifest(folder)
    before, now = dict(_flat(manifest["facts"])), dict(_flat(facts))
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise InvalidInputError(
                f"{folder} holds predictions with {name} {_short(before.get(name))}, and this "
                f"command has {_short(now.get(name))}: give --out another folder, or the options "
                "of then."
            )
    for name, value in made.items():
        begun = manifest["info"].get(name, value)
        if begun != value:
            warnings.warn(
                f"{folder} was begun with {name} {begun!s:.80}, and goes on with {value}: the "
                "rows to come may have other maps and numbers. Give --out a new folder for rows of "
                "one kind.",
                SEZooWarning,
                stacklevel=2,
            )


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[Tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
