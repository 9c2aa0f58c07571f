"""Resolving targets (names, indices, tensors) to rows, one per image and class."""

import difflib
import math
import numbers
import re
import unicodedata
from collections import Counter
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np
import torch

from ..errors import InvalidInputError, UnknownLabelError

#: A class index, a label name, a sequence of them (all for every image), or a tensor, array or
#: column of a table (one class per image).
Target = Union[int, str, Sequence[Union[int, str]], torch.Tensor, None]
#: A class to compare with; several that count alike; or several with the weight of each.
Versus = Union[int, str, Sequence[Union[int, str]], Mapping[Union[int, str], float], None]


class Rows(NamedTuple):
    """Pairs of an image and a target; the rows of an image follow each other.

    Attributes:
        images: Index of the image, (N,) long.
        targets: Class index, (N,) long.
    """

    images: torch.Tensor
    targets: torch.Tensor


def _composed(name: str) -> str:
    """Return a label name with accents as parts of their letters, however they were typed."""
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    """Return a label name for comparison: no case, with underscores for spaces and dashes."""
    name = unicodedata.normalize("NFKC", name).strip().casefold()
    return unicodedata.normalize("NFKC", name).replace(" ", "_").replace("-", "_")


def _parts(name: str) -> List[str]:
    """Return the synonyms of a label name, for comparison."""
    return [_plain(part) for part in name.split(",")]


def _classes_named(label: str, labels: Sequence[str]) -> List[int]:
    """Return the classes of a label name: those of the closest spelling that any of them has.

    Each way of reading is looser than the one before: the same text, the same letters, the same but
    for case and spaces, a synonym. So a label can be named however alike another one is.
    """
    plain, composed = _plain(label), _composed(label)
    ways: Tuple[Callable[[str], bool], ...] = (
        lambda name: name == label,
        lambda name: _composed(name) == composed,
        lambda name: _composed(name).strip() == composed.strip(),
        lambda name: _plain(name) == plain,
        lambda name: plain in _parts(name),
    )
    for same in ways:
        if found := [i for i, name in enumerate(labels) if same(name)]:
            return found
    return []


def label_index(label: Union[int, str], labels: Optional[Sequence[str]], num_classes: int) -> int:
    """Return the class index of a label name or index.

    Args:
        label: Index in [0, num_classes), or a label name; case, spaces and dashes matter only where
            two labels differ by nothing else. A label that lists synonyms ("tench, Tinca tinca")
            is found by each of them.
        labels: Label names of the model, if it has any.
        num_classes: Number of classes of the model.

    Returns:
        The class index.

    Raises:
        UnknownLabelError: If there is no such index or name; the message lists the labels.
    """
    label = _plain_value(label)
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise UnknownLabelError(f"A target must be a class index or a label name, not {label!r}.")
    if isinstance(label, int):
        if 0 <= label < num_classes:
            return label
        raise UnknownLabelError(f"Class index {label} is outside 0 to {num_classes - 1}.")
    if not labels:
        raise UnknownLabelError(
            f"This model has no label names for its {num_classes} classes, so {label!r} is "
            "unknown; give a class index, or name them: "
            f"model.pretrained_cfg.update(num_classes={num_classes}, label_names=[...])."
        )
    found = _classes_named(label, labels)
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(f"{labels[i]!r} ({i})" for i in found[:5])
        raise UnknownLabelError(
            f"Label {label!r} names {len(found)} classes: {named}. Give one of these names as it "
            "is written, or its index."
        )
    raise UnknownLabelError(_unknown_label(label, labels))


def target_of(text: str, labels: Optional[Sequence[str]], num_classes: int) -> int:
    """Return the class index of a word of the command line.

    A label name comes before a number, so that a class can be called "7".

    Raises:
        UnknownLabelError: If there is no such class; the message has the closest labels.
    """
    value: Union[int, str] = text
    if re.fullmatch(r"-?[0-9]{1,18}", text) and not _classes_named(text, labels or ()):
        value = int(text)
    return label_index(value, labels, num_classes)


def _unknown_label(label: str, labels: Sequence[str]) -> str:
    """Return the error message for an unknown label, with the closest labels."""
    close = _closest(label, labels)
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    if len(labels) <= 60:
        listed = f": {', '.join(map(_in_list, labels))}"
    else:
        first = [_in_list(name) for name in short_names(labels)[:2]]
        listed = f" {len(labels)} names, such as {first[0]} and {first[1]}"
    return f"Unknown label {label!r}.{hint} The labels are{listed}."


def _closest(label: str, labels: Sequence[str]) -> List[str]:
    """Return the names of at most three classes that are like an unknown label.

    They are those that have the label as a word, or else those spelt alike, or else those that
    contain it. Of synonyms the one that is like it is named, unless another class has it too.
    """
    plain = _plain(label)
    if not plain:
        return []
    classes: Dict[str, List[int]] = {}  # by synonym
    for i, name in enumerate(labels):
        for part in filter(None, dict.fromkeys(_parts(name))):
            classes.setdefault(part, []).append(i)
    close = (
        [part for part in classes if f"_{plain}_" in f"_{part}_"]
        or difflib.get_close_matches(plain, classes, n=6, cutoff=0.5)
        or [part for part in classes if plain in part]
    )
    found: Dict[int, str] = {}
    for part in close:
        for i in classes[part]:
            written = next(t.strip() for t in labels[i].split(",") if _plain(t) == part)
            found.setdefault(i, written if len(classes[part]) == 1 else _in_list(labels[i]))
    return list(dict.fromkeys(found.values()))[:3]


def _in_list(name: str) -> str:
    """Return a label name as it stands among others: in quotes if it has a comma itself."""
    return repr(name) if "," in name else name


class Pending(NamedTuple):
    """Rows of a target, before their classes are known on the host.

    Attributes:
        rows: The rows, on the device; None while their number is unknown (the predicted labels of
            a multi-label model).
        given: Class of each row as the caller named it; None if the model predicts it.
        present: Predicted labels, (B, K) bool, if ``rows`` is None.
    """

    rows: Optional[Rows]
    given: Optional[Tuple[int, ...]]
    present: Optional[torch.Tensor]

    def unknown(self) -> List[torch.Tensor]:
        """Return what the host has to be told, at most one tensor."""
        if self.rows is None:
            return [self.present]  # type: ignore[list-item]
        return [] if self.given is not None else [self.rows.targets]

    def resolve(self, told: Sequence[Any], batch: int) -> Tuple[Rows, List[int], Tuple[int, ...]]:
        """Return the rows, and on the host the image and the class of each.

        Args:
            told: Values of :meth:`unknown`, as numpy arrays.
            batch: Number of images, B.
        """
        if self.rows is None:
            images, targets = np.nonzero(told[0])
            device = self.present.device  # type: ignore[union-attr]
            rows = Rows(*(torch.from_numpy(each).to(device) for each in (images, targets)))
            return rows, images.tolist(), tuple(targets.tolist())
        given = self.given if self.given is not None else tuple(int(t) for t in told[0])
        each = len(given) // batch
        return self.rows, [n // each for n in range(len(given))], given


def pending_rows(
    target: Target,
    logits: torch.Tensor,
    labels: Optional[Sequence[str]],
    multi_label: bool,
    thresholds: Optional[Sequence[float]] = None,
) -> Pending:
    """Return the rows of a target, one per image and class, without waiting for the device.

    Args:
        target: Index or name: this class for every image. Sequence: each of these classes for
            every image. Tensor, array or Series (B,): one class per image, as whole numbers or, of
            an array or Series, label names. None: the top-1 class; for a
            multi-label model every label above its threshold, at least the one nearest to it.
        logits: (B, num_classes).
        labels: Label names or None.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: Probability above which each label of a multi-label model holds; by default
            one half.

    Returns:
        The image and the class of each row, as far as they are known.

    Raises:
        InvalidInputError: If a tensor or array does not have one class per image, the sequence is
            empty, or the model has no classifier.
        UnknownLabelError: If a class does not exist.
    """
    batch, device = logits.shape[0], logits.device
    num_classes = logits.shape[1]
    given: Any = _plain_value(target)
    if hasattr(given, "to_numpy"):  # a column of pandas or polars
        given = given.to_numpy()
    if isinstance(given, np.ndarray) and given.dtype.kind in "biufc":
        # torch takes no read-only or reversed arrays, and no unsigned types of more than a byte
        whole = given.dtype.kind in "iu"
        given = torch.from_numpy(given.astype(np.int64) if whole else given.copy())
    elif isinstance(given, np.ndarray):
        given = _named_classes(given, batch, labels, num_classes)
    if given is None:
        return _predicted_rows(logits, multi_label, thresholds)
    if isinstance(given, torch.Tensor):
        indices, several = _per_image_classes(given, batch, num_classes), 1
    else:
        named = _listed(given)
        if not named:
            raise InvalidInputError(
                "The list of targets is empty; give at least one, or target=None."
            )
        several = len(named)
        indices = [label_index(t, labels, num_classes) for t in named] * batch
    images = torch.arange(batch, device=device)
    images = images if several == 1 else images.repeat_interleave(several)
    return Pending(Rows(images, torch.tensor(indices, device=device)), tuple(indices), None)


def classes_asked(targets: Target) -> Optional[List[Any]]:
    """Return targets that hold for every image as a list of classes; None for None.

    Args:
        targets: A class index or label name; or a sequence, tensor, array or column of them.

    Returns:
        The classes as they were given, for :func:`label_index`.

    Raises:
        InvalidInputError: If a tensor or array has more than one axis.
    """
    given: Any = _plain_value(targets)
    if hasattr(given, "to_numpy"):  # a column of pandas or polars
        given = given.to_numpy()
    if isinstance(given, (np.ndarray, torch.Tensor)):
        if given.ndim != 1:
            raise InvalidInputError(
                f"targets must be a list of classes; got an array of shape {tuple(given.shape)}."
            )
        return given.tolist()
    return None if given is None else _listed(given)


def other_classes(
    versus: Versus, labels: Optional[Sequence[str]], num_classes: int
) -> Dict[int, float]:
    """Return the classes of ``versus`` with their weights; empty for None, the runner-up.

    Args:
        versus: See :data:`Versus`. Classes without weights share a weight of 1.
        labels: Label names or None.
        num_classes: Number of classes.

    Raises:
        InvalidInputError: If there is no class, one is named twice, a weight is not a positive
            number, or the classes are a tensor, array or column, which would be one per image.
        UnknownLabelError: If a class does not exist.
    """
    versus = _plain_value(versus)
    if versus is None:
        return {}
    if isinstance(versus, (np.ndarray, torch.Tensor)) or hasattr(versus, "to_numpy"):
        raise InvalidInputError(
            f"versus holds for every image, so it is no {type(versus).__name__}; give a class, a "
            "list of classes that count alike, or a dict with the weight of each."
        )
    if isinstance(versus, Mapping):
        named = list(versus.items())
    else:
        several = _listed(versus)
        named = [(name, 1 / len(several)) for name in several]
    found: Dict[int, float] = {}
    for name, weight in named:
        index = label_index(name, labels, num_classes)
        number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
        if index in found or not (number and 0 < float(weight) < math.inf):
            raise InvalidInputError(
                f"versus must name each class once, with a positive weight; got {versus!r}."
            )
        found[index] = float(weight)
    if not found:
        raise InvalidInputError("versus names no class; leave it out to take the runner-up.")
    return found


def _listed(given: Any) -> List[Any]:
    """Return one class or several as a list. Bytes are one: their items are numbers, no classes."""
    one = isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Iterable)
    return [given] if one else list(given)


def _plain_value(value: Any) -> Any:
    """Return a numpy number or zero-dimensional tensor as a Python number, others unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _named_classes(
    names: np.ndarray, batch: int, labels: Optional[Sequence[str]], num_classes: int
) -> torch.Tensor:
    """Return the classes of an array of label names, one per image, (B,)."""
    if names.shape != (batch,):
        raise InvalidInputError(
            f"A target array must hold one class per image, shape ({batch},), not {names.shape}; "
            "give a list to explain several classes of every image."
        )
    return torch.tensor([label_index(name, labels, num_classes) for name in names.tolist()])


def _per_image_classes(target: torch.Tensor, batch: int, num_classes: int) -> List[int]:
    """Return the classes of a target tensor, (B,)."""
    integer = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    if target.shape != (batch,) or not integer:
        raise InvalidInputError(
            f"A target tensor must hold one integer class index per image, shape ({batch},); got "
            f"{tuple(target.shape)}, {target.dtype}."
        )
    return [label_index(index, None, num_classes) for index in target.tolist()]


def above_threshold(
    logits: torch.Tensor, thresholds: Optional[Sequence[float]] = None
) -> torch.Tensor:
    """Return the logits of a multi-label model less the logits of their thresholds, (B, K).

    Args:
        logits: (B, K).
        thresholds: Probabilities in (0, 1), one per label; by default one half.

    Raises:
        InvalidInputError: If there is another number of thresholds than of labels, or one is no
            probability.
    """
    if thresholds is None:
        return logits
    try:
        values = [float(threshold) for threshold in thresholds]
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: rows of a tensor
        values = [math.nan] * logits.shape[1]
    if len(values) != logits.shape[1]:  # one would silently hold for all labels
        raise InvalidInputError(
            f"There are {len(values)} thresholds for {logits.shape[1]} labels; set "
            "model.thresholds to one for each label, or to None for one half."
        )
    if not all(0 <= value <= 1 for value in values):
        raise InvalidInputError(
            "model.thresholds must be a probability from 0 to 1 for each label, or None for one "
            f"half, not {thresholds!r}."
        )
    return logits - torch.tensor(values, dtype=torch.float32, device=logits.device).logit()


def _predicted_rows(
    logits: torch.Tensor, multi_label: bool, thresholds: Optional[Sequence[float]]
) -> Pending:
    """Return a row for every predicted class, at least one per image."""
    images = torch.arange(logits.shape[0], device=logits.device)
    if not multi_label:
        return Pending(Rows(images, logits.argmax(1)), None, None)
    margin = above_threshold(logits, thresholds)
    present = (margin > 0).scatter(1, margin.argmax(1, keepdim=True), True)
    return Pending(None, None, present)


def runner_up(logits: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return for each row the class with the highest logit except the row's target, (N,)."""
    others = logits[rows.images].clone()
    others.scatter_(1, rows.targets[:, None], float("-inf"))
    return others.argmax(1)


def short_names(labels: Sequence[str]) -> List[str]:
    """Return label names for captions, with spaces for underscores.

    Of synonyms ("tench, Tinca tinca") the first is taken, but where two labels would become the
    same ("Smith, Ann" and "Smith, Bob"), both stay whole.

    Args:
        labels: Label names of all classes.
    """
    first = [label.split(",")[0].strip() for label in labels]
    counts = Counter(first)
    shown = [a if a and counts[a] == 1 else b for a, b in zip(first, labels, strict=True)]
    return [name.replace("_", " ") for name in shown]


def label_names_of(indices: Sequence[int], labels: Optional[Sequence[str]]) -> Tuple[str, ...]:
    """Return the label names of class indices; the index as text if the model has no names."""
    names: List[str] = [labels[i] if labels else str(i) for i in indices]
    return tuple(names)
