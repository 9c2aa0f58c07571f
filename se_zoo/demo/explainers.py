"""What the server answers to a photo: predictions, and the maps of all methods side by side."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import timm
from PIL import Image

from ..data.images import open_image
from ..errors import InvalidInputError, SEZooError, UnknownModelError
from ..explanations.methods import TABLE, offered_methods
from ..explanations.target_classes import short_names, target_of
from ..inference.images import load_photo
from ..models.load_model import load_any
from ..models.names import PREFIX
from ..models.speaker.model import SpeakerModel
from ..models.squeeze import squeeze
from .videos import SHOWN_LABELS, VideoExplainers

#: Largest photo that is decoded, in pixels.
MAX_PIXELS = 50_000_000
#: Number of models that users asked for by name and that are kept in memory.
KEPT_MODELS = 2


class Answer(NamedTuple):
    """The answer to one photo.

    Attributes:
        probabilities: The likeliest labels.
        pictures: The photo, then one picture for each method, each with its caption.
        notes: What must be known to read the maps.
    """

    probabilities: Dict[str, float]
    pictures: List[Tuple[Any, str]]
    notes: str


class Explainers:
    """The models of a server.

    Args:
        names: Models to load: names of the zoo, ``hf-hub:``, ``local-dir:``, or any timm model,
            which gets an SE head with an identity gate.
        any_model: Whether users may name other timm models. Folders and repositories are refused.

    Attributes:
        names: The names of the models of photos.
        videos: The clip and speaker models.

    Raises:
        UnknownModelError: If a name is unknown.
        WeightsNotFoundError: If weights cannot be fetched.
    """

    names: Tuple[str, ...]
    videos: VideoExplainers

    def __init__(self, names: Sequence[str], any_model: bool):
        loaded = {name: _load(name) for name in names}
        self._own = {name: model for name, model in loaded.items() if not _takes_videos(model)}
        self.names = tuple(self._own)
        self.videos = VideoExplainers(
            {name: model for name, model in loaded.items() if name not in self._own}
        )
        self.any_model = any_model
        self._asked: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()  # two users who ask for a model load it once

    def model(self, name: str) -> Any:
        """Return a model by a name that a user gave.

        Raises:
            UnknownModelError: If it is none of the server's models of photos, and no timm model
                that the server may load.
            InvalidInputError: If it takes videos.
        """
        if name in self._own:
            return self._own[name]
        if not self.any_model or not timm.is_model(name) or name.startswith(PREFIX):
            more = " and any timm model" if self.any_model else ""
            raise UnknownModelError(
                f"Unknown model {name!r}; this demo offers {', '.join(self.names)}{more}."
            )
        with self._lock:
            if name not in self._asked:
                model = _load(name)
                if _takes_videos(model):
                    raise InvalidInputError(f"{name} takes videos; start the demo with it.")
                self._asked[name] = model
                if len(self._asked) > KEPT_MODELS:
                    self._asked.popitem(last=False)
            self._asked.move_to_end(name)
            return self._asked[name]

    def labels(self, name: str) -> List[str]:
        """Return the labels of a model; numbers as text if it has no names."""
        model = self.model(name)
        return list(model.class_labels() or map(str, range(model.num_classes)))

    def answer(
        self, photo: Optional[Path], name: str, label: Optional[str], versus: Optional[str]
    ) -> Answer:
        """Predict a photo, and draw the maps of all methods.

        Args:
            photo: File of the photo.
            name: Name of the model.
            label: Label to explain; the likeliest by default.
            versus: Label that the difference map compares it with; the likeliest other by default.

        Returns:
            The answer.

        Raises:
            SEZooError: If the photo cannot be read, or model or labels are unknown.
        """
        if photo is None:
            raise InvalidInputError("Choose a photo first.")
        _check_size(photo)
        model, opened = self.model(name), load_photo(photo)
        labels, count = model.class_labels(), model.num_classes
        shares = model.explain(opened, method="activation").probabilities[0]
        order = shares.argsort(descending=True).tolist()
        target = target_of(label, labels, count) if label else order[0]
        others = (index for index in order if index != target)
        other = target_of(versus, labels, count) if versus else next(others, None)
        if other == target:
            raise InvalidInputError("Compare the label with another one than itself.")
        names = self.labels(name)
        # The likelier one of two labels with the same name, which comes last here.
        shown = {names[index]: float(shares[index]) for index in reversed(order[:SHOWN_LABELS])}
        pictures, notes = _pictures(model, opened, target, other)
        short = short_names(names)
        title = f"{short[target]} {float(shares[target]):.1%}"
        if other is not None:
            notes += f" The difference map compares it with {short[other]}."
        return Answer(shown, pictures, f"**{title}**. {notes}")


def _load(name: str) -> Any:
    if ":" in name or name.startswith(PREFIX) or "_sehead" in name:
        return load_any(name)
    return squeeze(name, pretrained=True).eval()


def _takes_videos(model: Any) -> bool:
    return model.takes_clips or isinstance(model, SpeakerModel)


def _check_size(photo: Path) -> None:
    """Refuse a photo that would need too much memory, before it is decoded."""
    try:
        with open_image(photo) as opened:
            width, height = opened.size
    except ValueError as error:
        raise InvalidInputError(f"This file is not a photo that can be read: {error}.") from error
    if width * height > MAX_PIXELS:
        raise InvalidInputError(
            f"The photo has {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million;"
            " make it smaller."
        )


def _pictures(
    model: Any, photo: Any, target: int, other: Optional[int]
) -> Tuple[List[Tuple[Any, str]], str]:
    """Draw the photo and the map of each method."""
    pictures: List[Tuple[Any, str]] = []
    exact, offered = False, offered_methods(model.is_multi_label(), model.num_classes)
    for method in TABLE:
        if (other is None) if method.pairwise else (method.name not in offered):
            continue
        explanation = model.explain(
            photo, target, method.name, versus=other if method.pairwise else None
        )
        if not pictures:
            pictures.append((explanation.photos[0].picture, "the photo"))
        exact = exact or explanation.exact
        caption = f"{method.name}: every label" if method.classless else method.name
        pictures.append((Image.fromarray(explanation.overlay()[0]), caption))
    notes = (
        "The contribution and affinity maps add up to the logit." if exact
        else "This head's contribution map does not add up to the logit."
    )  # fmt: skip
    return pictures, notes


def sentence(error: Exception) -> str:
    """Return an error as one line for users; errors that were not foreseen show no details."""
    if isinstance(error, SEZooError):
        return " ".join(str(error).split())
    return "This file could not be explained. Try another one."
