"""Define the presets of `benchmarks/maps.py`: their options, checks and images."""

import importlib.util
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, List, Literal, Sequence, Tuple

import tyro

from benchmarks.face_cases import celeba_cases, celeba_part_cases, face_part_cases
from benchmarks.map_cases import CaseSet, own_cases, sample
from benchmarks.object_cases import (
    like_class_cases,
    mosaic_cases,
    right_photos,
    single_cases,
)
from se_zoo.errors import InvalidInputError
from se_zoo.explanations import explain
from se_zoo.explanations.methods import CLASS_TOKEN_WEIGHTS, COMPETING_METHODS
from se_zoo.explanations.quality.cases import METHODS
from se_zoo.explanations.quality.compare import Settings
from se_zoo.explanations.quality.peer_methods import BY_CHANNEL, SLOW
from se_zoo.explanations.quality.peers import (
    CLASS_TOKEN_PEERS,
    PEERS,
    check_libraries,
)
from se_zoo.explanations.quality.token_peers import TOKEN_PEERS, has_token_maps


@dataclass(frozen=True)
class Bench:
    """Options that all presets have."""

    model: str = ""
    """Name of the model."""
    output: Path = Path("runs/explain")
    """Folder for the results; each preset has a folder of its own in it."""
    methods: Tuple[str, ...] = METHODS
    """Methods whose maps are scored."""
    pixel_cases: int = 60
    """Cases of each set, evenly spaced, that are also scored by insertion, deletion and ROAD. These
    take about a hundred forward passes for each map."""
    slow_cases: int = 16
    """Number of these cases for the methods that take many passes for one map."""
    settings: Settings = field(default_factory=Settings)
    """Settings of the measures."""
    chunk: int = 4
    """Cases in a chunk; the scores are saved after each chunk."""
    resamples: int = 2000
    """Resamples of the bootstrap."""
    debug: bool = False
    """Run everything once: four cases of each set, few steps."""

    name: ClassVar[str] = ""

    def sets(self) -> List[CaseSet]:
        """Load the sets of cases to explain."""
        raise NotImplementedError


@dataclass(frozen=True)
class Faces(Bench):
    """Options of the preset faces: faces with boxes and part masks."""

    model: str = "se_zoo/resnet18_slim_celeba"
    """A model that was trained on CelebA."""
    images: int = 1000
    """Number of CelebA's test images to choose cases from."""
    most: int = 20
    """Most cases of each attribute, of these."""
    # All 189 images: none of their people is in the train part of celeba46k, on which the zoo's
    # models are trained.
    parts_splits: Tuple[Literal["train", "valid", "test"], ...] = ("train", "valid", "test")
    """Official splits of the CelebA images with part masks. Give valid and test for a model that
    was trained on the whole official train split."""

    name = "faces"

    def sets(self) -> List[CaseSet]:
        """Load the three sets of faces."""
        count = 60 if self.debug else self.images
        return [
            celeba_cases(self.model, count, self.most),
            celeba_part_cases(self.model, self.parts_splits),
            face_part_cases(self.model, 45),
        ]


@dataclass(frozen=True)
class Objects(Bench):
    """Options of the preset objects: mosaics of photos, and photos on a blurred background."""

    methods: Tuple[str, ...] = tuple(m for m in METHODS if m not in SLOW)
    """Methods whose maps are scored; by default without those that take many passes a map."""
    pixel_cases: int = 5
    slow_cases: int = 0
    settings: Settings = field(default_factory=lambda: Settings(steps=10, shares=(0.5,)))
    model: str = "se_zoo/tf_efficientnet_lite0_in1k"
    """A model that was trained on ImageNet-1k."""
    mosaics: int = 12
    """Mosaics of nine photos, each explained for three of them."""
    like_mosaics: int = 12
    """Mosaics of four photos whose classes are like each other."""
    singles: int = 48
    """Photos that are pasted on a blurred other photo."""
    cell: int = 96
    """Side of a photo in the pictures, in pixels."""

    name = "objects"

    def sets(self) -> List[CaseSet]:
        """Make the three sets of photos that the model classifies correctly."""
        file = sample("imagenet_sample", "train.parquet")
        photos = right_photos(self.model, file, self.cell, 100 if self.debug else 1000)
        return [
            mosaic_cases("mosaics", photos, self.mosaics),
            like_class_cases("like_classes", photos, self.like_mosaics),
            single_cases("single", photos, self.singles),
        ]


@dataclass(frozen=True)
class Own(Bench):
    """Options of the preset own: your model and your images."""

    model: str = tyro.MISSING
    """Name of the model, as for se-zoo explain."""
    csv: Path = tyro.MISSING
    """Csv file with the columns image and label, and x0 y0 x1 y1 or none of these. Several boxes of
    a label in an image are one answer, and leave out the measure of boxes."""

    name = "own"

    def sets(self) -> List[CaseSet]:
        """Read your images."""
        return [own_cases(self.model, self.csv)]


def debugged(given: Bench) -> Bench:
    """Return options for a run of seconds, in a folder of its own."""
    fast = tuple(m for m in given.methods if m not in BY_CHANNEL)
    if not fast:
        raise InvalidInputError(f"--debug leaves out {', '.join(BY_CHANNEL)}; name another method.")
    if left_out := [m for m in given.methods if m in BY_CHANNEL]:
        print(f"debug: without {', '.join(left_out)}", file=sys.stderr)
    return replace(
        given, output=given.output.with_name(f"{given.output.name}-debug"), methods=fast,
        pixel_cases=2, slow_cases=1, chunk=4, resamples=50,
        settings=replace(given.settings, steps=4, shares=(0.5,)),
    )  # fmt: skip


def _without_map(found: CaseSet, methods: Sequence[str]) -> List[str]:
    """Return the methods that have no map of a set's model."""
    model: Any = found.model
    first = found.cases.some([0])
    missing = set(COMPETING_METHODS if model.is_multi_label() else ())
    if explain(model, first.images, first.targets).weights in CLASS_TOKEN_WEIGHTS:
        missing |= set(PEERS) - set(CLASS_TOKEN_PEERS)
    if not has_token_maps(model):
        missing |= set(TOKEN_PEERS)
    return [method for method in methods if method in missing]


def offered(given: Bench, sets: List[CaseSet]) -> Bench:
    """Return options without the methods that the models of the sets do not have."""
    left_out = list(dict.fromkeys(m for found in sets for m in _without_map(found, given.methods)))
    if not left_out:
        return given
    print(f"the model has no such maps: without {', '.join(left_out)}", file=sys.stderr)
    kept = tuple(m for m in given.methods if m not in left_out)
    if not kept:
        raise InvalidInputError("--methods: the model has none of these maps; name another one.")
    return replace(given, methods=kept)


def check(given: Bench) -> None:
    """Refuse options that cannot be used.

    Raises:
        InvalidInputError: Naming the option.
    """
    unknown = [method for method in given.methods if method not in METHODS]
    if unknown or len(set(given.methods)) < len(given.methods) or not given.methods:
        raise InvalidInputError(
            f"--methods: {', '.join(unknown) or 'none, or one twice'}; there are "
            f"{', '.join(METHODS)}."
        )
    settings = given.settings
    if min(given.chunk, given.resamples, settings.steps, settings.shift) < 1:
        raise InvalidInputError("--chunk, --resamples, --steps and --shift must be at least 1.")
    if not 0 <= given.slow_cases <= given.pixel_cases:
        raise InvalidInputError(
            f"--slow-cases is {given.slow_cases}; it must be from 0 to --pixel-cases, which is "
            f"{given.pixel_cases}."
        )
    if not settings.blur > 0:
        raise InvalidInputError(f"--blur is {settings.blur}; it must be above 0.")
    if not settings.shares or not all(0 < share < 1 for share in settings.shares):
        raise InvalidInputError(f"--shares must lie between 0 and 1: {settings.shares}.")
    check_libraries(method for method in given.methods if method in PEERS)


def check_sets(given: Bench, sets: List[CaseSet]) -> None:
    """Refuse, before anything is scored, options that would fail on these sets.

    Raises:
        InvalidInputError: Naming the set and the option.
    """
    if any(s.cases.boxes is not None for s in sets) and not importlib.util.find_spec("scipy"):
        raise InvalidInputError('boxes need SciPy: pip install "se_zoo[compare]".')
    for found in sets:
        shape = tuple(found.cases.images.shape[2:])
        if given.settings.shift >= min(shape) or given.settings.steps > shape[0] * shape[1]:
            raise InvalidInputError(
                f"{found.name}: --shift and --steps are too large for images of {shape[0]} x "
                f"{shape[1]} pixels."
            )
