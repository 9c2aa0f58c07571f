"""Write a static page that predicts and explains in the browser: a Hugging Face static Space."""

import json
import re
import shutil
from pathlib import Path
from string import Template
from typing import Any, Dict, Optional

from ..errors import InvalidInputError
from ..explanations.explained_model import ExplainedModel
from ..explanations.onnx_export import write_onnx
from ..files import new_folder, write_text
from ..hub.facts import read_facts
from ..hub.zoo_cards import FACTS, NOTICE, own_name
from ..inference.images import demo_photo, load_photo
from ..models.input_size import data_config
from ..models.pretrained.manifest import cards_folder, hub_folder, sha256_of
from ..version import __version__
from ..zoo_names import short_name
from . import runtime
from .look import look

_PAGE = Path(__file__).parent / "page"
_README = "README.md"
#: Filters that the page's script has, under their names in a model's config.
_INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")
#: Least width of the drawn pictures, in pixels.
_DRAWN_WIDTH = 400


def write_space(model: Any, name: str, out: Path, tarball: Path) -> Dict[str, float]:
    """Write the page, the model as ONNX, and onnxruntime-web to a folder, whole or not at all.

    Args:
        model: An image model with an SE head, in eval mode, on the CPU.
        name: Name of the model, as it is shown and as :func:`load_model` takes it.
        out: Folder to write; it must not exist yet, or be empty.
        tarball: Result of :func:`runtime.fetch_runtime`.

    Returns:
        The largest difference of each output of the ONNX graph from torch's; see
        :func:`write_onnx`.

    Raises:
        InvalidInputError: If the model has no exact contribution maps or a preprocessing that the
            page does not know, or the extra ``export`` is missing.
        FileExistsError: If the folder is taken.
    """
    settings = _preprocessing(model, name)
    with new_folder(out) as folder:
        graph = ExplainedModel(model, "contribution", raw=True)
        differences = write_onnx(graph, folder / "model.onnx")
        for file in _PAGE.iterdir():
            if file.name != _README:
                shutil.copyfile(file, folder / file.name)
        (folder / "ort").mkdir()
        runtime.unpack_runtime(tarball, folder / "ort")
        own = own_name(name) if ":" not in name else None
        # The page is for others, whom the path of a folder is no concern of.
        name = short_name(name) if name.startswith("local-dir:") else name
        _example(own).save(folder / "example.png")
        if own is not None and (hub_folder(own) / NOTICE).is_file():
            shutil.copyfile(hub_folder(own) / NOTICE, folder / NOTICE)
        config = {
            **_about(model, name, own, settings["license"]),
            **{key: value for key, value in settings.items() if key != "license"},
            "model_bytes": (folder / "model.onnx").stat().st_size,
            "model_sha256": sha256_of(folder / "model.onnx"),
            "look": look(model),
        }
        write_text(folder / "config.json", json.dumps(config))
        write_text(folder / _README, _readme(name, own, settings["license"]))
    return differences


def _preprocessing(model: Any, name: str) -> Dict[str, Any]:
    """Return how photos become inputs, and refuse models that the page cannot show."""
    if model.takes_clips:
        raise InvalidInputError(f"{name} takes clips; the page shows photos only.")
    if not model.has_exact_maps():
        raise InvalidInputError(
            f"The head of {name} is not average pooling, norm and a linear layer, so its maps need "
            "a gradient, which the page cannot compute; use se-zoo demo instead."
        )
    config: Dict[str, Any] = data_config(model)
    crop_mode, interpolation = config.get("crop_mode") or "center", config["interpolation"]
    if crop_mode not in ("center", "squash") or interpolation not in _INTERPOLATIONS:
        raise InvalidInputError(
            f"{name} prepares photos with crop mode {crop_mode!r} and {interpolation!r} "
            "interpolation; the page knows the crop modes center and squash, and "
            f"{', '.join(_INTERPOLATIONS)}."
        )
    if config["crop_pct"] > 1:
        raise InvalidInputError(
            f"{name} pads photos (crop_pct {config['crop_pct']}); the page knows crops only."
        )
    channels, height, width = config["input_size"]
    if channels != 3:
        raise InvalidInputError(f"{name} takes images of {channels} channels, not colour photos.")
    mean, std = model.image_stats()  # one of each channel; the config may have one for all
    zoom = max(1, -(-_DRAWN_WIDTH // width))
    return {
        "height": height, "width": width, "drawn": [height * zoom, width * zoom],
        "crop_pct": config["crop_pct"], "crop_mode": crop_mode, "interpolation": interpolation,
        "mean": list(mean), "std": list(std),
        "license": (getattr(model, "pretrained_cfg", None) or {}).get("license"),
    }  # fmt: skip


def _about(model: Any, name: str, own: Optional[str], license_id: Optional[str]) -> Dict[str, Any]:
    """Return names, labels and texts of the model."""
    labels = model.class_labels() or [f"class {index}" for index in range(model.num_classes)]
    facts = read_facts(cards_folder() / own / FACTS) if own else None
    return {
        "model": name,
        "link": f"https://huggingface.co/se-zoo/{own}" if own else None,
        "terms": facts.license.name or facts.license.id if facts else license_id,
        "limit": _first_sentence(facts.limits[0]) if facts else "",
        "intended_use": " ".join(facts.intended_use.split()) if facts else "",
        "labels": list(labels),
        "example_labels": list(facts.gallery.targets) if facts and facts.gallery else [],
        "multi_label": model.is_multi_label(),
        "thresholds": None if model.thresholds is None else list(model.thresholds),
        "se_zoo": __version__,
        "onnxruntime": runtime.VERSION,
    }


def _first_sentence(text: str) -> str:
    """Return the first sentence of a text, in one line."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def _example(own: Optional[str]) -> Any:
    """Return the portrait that comes with matplotlib, framed as in the model's card."""
    gallery = read_facts(cards_folder() / own / FACTS).gallery if own else None
    return load_photo(demo_photo(), gallery.crop if gallery else None)


def _readme(name: str, own: Optional[str], license_id: Optional[str]) -> str:
    """Return the README, whose header makes the folder a static Space."""
    facts = read_facts(cards_folder() / own / FACTS) if own else None
    license_id = facts.license.id if facts else license_id
    lines = {
        "title": f"Why? {short_name(name)}",
        "license": license_id,
        "license_name": facts.license.name if facts else None,
        "license_link": facts.license.link if facts else None,
        "models": [f"se-zoo/{own}"] if own else None,
    }
    return Template((_PAGE / _README).read_text("utf-8")).substitute(
        short=short_name(name), name=name, version=__version__, ort=runtime.VERSION,
        # As JSON, which is YAML too: a folder's name may hold a colon or a #.
        header="".join(
            f"{key}: {json.dumps(value, ensure_ascii=False)}\n"
            for key, value in lines.items() if value
        ),
    )  # fmt: skip
