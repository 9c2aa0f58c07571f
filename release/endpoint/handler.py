"""Serve an image model of se_zoo on Hugging Face Inference Endpoints: labels and heatmaps."""

import base64
import io
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from PIL import Image

import se_zoo
from se_zoo import InvalidInputError
from se_zoo.data.images import check_size, read_rgb, upright_rgb
from se_zoo.models.input_size import data_config
from se_zoo.models.photos import check_resized
from se_zoo.transform import evaluation_transform

DEFAULT_MODEL = "se_zoo/tf_efficientnet_lite0_in1k"
#: Most targets of a request: each is answered with a picture, so memory grows with their number.
MOST_TARGETS = 100
#: Most characters of a label or method: errors repeat it, and the endpoint logs errors.
MOST_CHARACTERS = 1000


class EndpointHandler:
    """Answers the requests of an endpoint.

    Args:
        path: Folder of the repository. A model that lies in it is served; otherwise the model of
            the zoo that the environment variable ``SE_ZOO_MODEL`` names.
    """

    def __init__(self, path: str = ""):
        beside = (Path(path) / "config.json").is_file()
        name = f"local-dir:{path}" if beside else os.environ.get("SE_ZOO_MODEL", DEFAULT_MODEL)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = se_zoo.create_model(name, pretrained=True).eval().to(self.device)
        if self.model.takes_clips:
            raise InvalidInputError(f"{name} takes clips; this handler serves image models only.")
        self.config = data_config(self.model)
        self.transform = evaluation_transform(self.config)

    def __call__(self, data: Dict[str, Any]) -> Dict[str, Any]:
        """Return labels and maps.

        Args:
            data: ``inputs``, an image as PIL image, bytes or base64; and ``parameters``, any of
                ``target``, ``method`` and ``top``.

        Returns:
            ``labels`` and ``maps``; see README.md.

        Raises:
            InvalidInputError: If the image cannot be read or resized, or a parameter is wrong.
        """
        target, method, top = _asked(data.get("parameters"))
        photo = _photo(data.get("inputs"))
        try:
            check_resized(photo.size, self.config)
        except ValueError as error:
            raise InvalidInputError(f"The image cannot be used: {error}.") from None
        images = self.transform(photo)[None].to(self.device)
        explanation = self.model.explain(images, target, method)
        return {"labels": _labels(explanation, top), "maps": _maps(explanation)}


def _asked(parameters: Any) -> Tuple[Any, Optional[str], int]:
    """Return target, method and top of a request; what they name is checked by the model."""
    if not isinstance(parameters or {}, dict):
        raise InvalidInputError(
            f"parameters is {type(parameters).__name__}; it must be an object, such as "
            '{"target": "cat", "top": 5}.'
        )
    asked = dict(parameters or {})
    target, method, top = (asked.pop(name, None) for name in ("target", "method", "top"))
    if asked:
        raise InvalidInputError(
            f"Unknown parameters: {', '.join(map(str, asked))[:80]}; there are target, method and "
            "top."
        )
    top = 5 if top is None else top
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise InvalidInputError(f"top is {top!r:.80}; it must be a whole number, 1 or more.")
    targets = target if isinstance(target, (list, tuple)) else [target]
    if len(targets) > MOST_TARGETS:
        raise InvalidInputError(
            f"target has {len(targets):,} entries; give at most {MOST_TARGETS} at a time."
        )
    for one in (*targets, method):
        long = isinstance(one, str) and len(one) > MOST_CHARACTERS
        if long or not isinstance(one, (str, int, type(None))):
            raise InvalidInputError(
                f"target is a label, a class index or a list of them, and method a name, of at "
                f"most {MOST_CHARACTERS:,} characters; got {one!r:.80}."
            )
    return target, method, top


def _photo(given: Any) -> Image.Image:
    """Return the image of a request, upright and RGB, as the library reads photos."""
    try:
        if isinstance(given, str):
            text = given.rpartition(",")[2]  # a data URL, too
            given = base64.b64decode("".join(text.split()), validate=True)  # encoders break lines
        if isinstance(given, bytes):
            return read_rgb(io.BytesIO(given))
        if not isinstance(given, Image.Image):
            raise ValueError(f"it is {type(given).__name__}")
        check_size(*given.size)
        return upright_rgb(given)
    except (ValueError, OSError) as error:
        raise InvalidInputError(
            f"inputs cannot be read as an image ({error}); send a JPEG or PNG, or its base64."
        ) from error


def _labels(explanation: Any, top: int) -> List[Dict[str, Union[str, float, bool]]]:
    """Return the labels with the largest probabilities, and whether each is predicted."""
    probabilities, predicted = explanation.probabilities[0], explanation.predicted[0].tolist()
    names = explanation.label_names or [str(i) for i in range(len(probabilities))]
    best = probabilities.topk(min(top, len(probabilities)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [
        {"label": names[i], "score": round(score, 6), "predicted": predicted[i]}
        for score, i in pairs
    ]


def _maps(explanation: Any) -> List[Dict[str, Any]]:
    """Return a map for each target, as numbers and as a picture."""
    maps = []
    for row, picture in enumerate(explanation.overlay()):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        maps.append(
            {
                "label": explanation.labels[row],
                "score": round(float(explanation.row_probability[row]), 6),
                "exact": explanation.exact,
                "map": explanation.raw[row].tolist(),
                "png": base64.b64encode(file.getvalue()).decode(),
            }
        )
    return maps
