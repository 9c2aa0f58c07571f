"""Read predictions back: rows, their photos, and explanations that can be drawn."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

import numpy as np
import torch
from PIL import Image

from ..errors import InvalidInputError
from ..explanations import Explanation
from ..explanations.channel_selection import select_channels
from ..explanations.maps import Placement, stretched, to_heatmap
from ..explanations.methods import FROM_ZERO_METHODS, METHODS
from ..explanations.photo import Photo, bounded
from ..models.pretrained.config_check import check_config
from .part_files import made_with, part_file, part_files, place_of, read_rows, row_count
from .prepare import Preprocess, open_photo

#: Logit of an independent label that a row does not keep: its probability is 0 in float32.
_UNKNOWN = -100.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction and maps of one photo, as ``se-zoo predict`` stores them.

    Attributes:
        id: Name of the photo.
        error: Why it could not be read; None if it could. Then all that follows is empty.
        region: Part of the upright photo that the model saw, (x0, y0, x1, y1) in pixels.
        top: The most probable classes, (class, label, probability) each.
        target: Classes that are explained.
        label: Their label names.
        probability: Their probabilities.
        versus: Classes that they are compared with (difference maps).
        map: float32 (number of targets, *grid).
        constant: float32 (number of targets,); where ``exact``, a map's mean plus its constant is
            the logit.
        exact: Whether the maps add up to the logits.
        weights: Where the channel weights come from, see :class:`se_zoo.Explanation`.
        gate: The SE vector, float32 (C,); None if it was not kept.
        place: Part of the data set, and number in it.
    """

    id: str
    error: Optional[str]
    region: Optional[Tuple[float, ...]]
    top: Tuple[Tuple[int, str, float], ...]
    target: Tuple[int, ...]
    label: Tuple[str, ...]
    probability: Tuple[float, ...]
    versus: Optional[Tuple[int, ...]]
    map: np.ndarray
    constant: np.ndarray
    exact: bool
    weights: str
    gate: Optional[np.ndarray]
    place: Tuple[int, int]


class Predictions:
    """The rows of a folder of ``se-zoo predict``, in the order of the data set.

    Args:
        folder: The folder. It may still lack rows.

    Attributes:
        facts: What the predictions are of: model, source, options.
        files: The parquet files.

    Raises:
        InvalidInputError: If it is no such folder.
    """

    folder: Path
    facts: "Any"

    def __init__(self, folder: Union[str, Path]):
        from .predict.manifest import read_manifest

        self.folder = Path(folder)
        manifest = read_manifest(self.folder)
        self.facts, self._info = manifest["facts"], manifest["info"]
        self.files: List[Path] = part_files(self.folder)
        self._source: Any = None
        self._preprocess: Optional[Preprocess] = None

    def __len__(self) -> int:
        """Return the number of rows that are there."""
        return sum(map(row_count, self.files))

    def __iter__(self) -> Iterator[Prediction]:
        """Read the rows, one file at a time."""
        for file in self.files:
            yield from self._read(file)

    def __getitem__(self, index: int) -> Prediction:
        """Return a row.

        Raises:
            IndexError: If there is no such row.
            InvalidInputError: If its file is damaged.
        """
        left = index if index >= 0 else len(self) + index
        for file in self.files if left >= 0 else []:
            rows = row_count(file)
            if left < rows:
                return self._read(file)[left]
            left -= rows
        raise IndexError(f"There is no row {index}; {self.folder} has {len(self)}.")

    def at(self, place: Tuple[int, int]) -> Prediction:
        """Return the row of a place.

        Args:
            place: Part of the data set, and number in it, as :attr:`Prediction.place`.

        Returns:
            The row.

        Raises:
            InvalidInputError: If it is not there, or its file is damaged.
        """
        file, number = self._file_of(place)
        if not file.is_file() or number >= row_count(file):
            raise InvalidInputError(f"{self.folder} has no row {place[1]} of part {place[0]}.")
        return _rows_in(file, read_rows(file).slice(number, 1), place)[0]

    def made_with(self, row: Prediction) -> Dict[str, str]:
        """Return the versions of the packages and the device that made a row.

        Args:
            row: A row of these predictions.

        Returns:
            Versions of se_zoo, torch, timm and pillow, and the device, by name; empty for a file of
            an earlier version of se_zoo, of which ``predict.json`` alone has the first versions.

        Raises:
            InvalidInputError: If the row's file is not there any more, or is damaged.
        """
        return made_with(self._file_of(row.place)[0])

    def _file_of(self, place: Tuple[int, int]) -> Tuple[Path, int]:
        """Return the file of a place, and the row's number in it."""
        unit, number = divmod(place[1], self.facts["rows"]["rows_per_file"])
        return part_file(self.folder, place[0], unit), number

    def photo(self, row: Prediction) -> Image.Image:
        """Return the photo of a row, from the data set.

        Args:
            row: A row of these predictions.

        Returns:
            The upright RGB photo.

        Raises:
            InvalidInputError: If the data set is not where it was, or has changed.
        """
        from .predict.manifest import MANIFEST
        from .predict.open import HUB, open_source
        from .predict.sources import SourceOptions

        if self._source is None:
            try:
                options = SourceOptions(**self._info["source_options"])
                place = str(self._info["source"])
            except (KeyError, TypeError) as error:
                raise self._wrong(error) from error
            options = options._replace(revision=self.facts["source"].get("revision"))
            try:
                source = open_source(place, options)
            except InvalidInputError as error:
                if place.startswith(HUB):
                    raise
                raise InvalidInputError(
                    f"{error} If the photos were moved, write their new place into {MANIFEST} of "
                    f"{self.folder}, as info.source."
                ) from error
            if source.facts() != self.facts["source"]:
                raise InvalidInputError(
                    f"{self._info['source']} has changed since {self.folder} was made."
                )
            self._source = source
        part, number = row.place
        [(_, image)] = self._source.read(part, number, number + 1)
        return _opened(row, image)

    def explanation(self, row: Prediction, photo: Any = None) -> Explanation:
        """Return a row as an explanation, to draw and to save.

        The map has 16-bit precision. Where a row keeps the most probable classes only, the others
        share what remains of the probability; independent labels that were not kept have the
        probability 0, and do not count as predicted. Where classes compete, the logits are those of
        the probabilities, the model's less one number: an exact map's mean plus its constant is the
        model's own logit.

        Args:
            row: A row of these predictions.
            photo: The photo, as a path, bytes, PIL image or uint8 array; by default it is read from
                the data set.

        Returns:
            An explanation of one photo, which has the row's id as its name.

        Raises:
            InvalidInputError: If the row has an error, the photo cannot be read, or the manifest
                does not describe the row.
        """
        if row.error is not None:
            raise InvalidInputError(f"{row.id} has no explanation: {row.error}")
        given = self.photo(row) if photo is None else photo
        try:
            return self._explanation(row, given)
        except InvalidInputError:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise self._wrong(error) from error

    def _wrong(self, error: Exception) -> InvalidInputError:
        return InvalidInputError(
            f"the manifest of {self.folder} does not describe its rows: {type(error).__name__}: "
            f"{error}"
        )

    def _explanation(self, row: Prediction, given: Any) -> Explanation:
        """Return a row as an explanation of a photo."""
        model = self.facts["model"]
        config = {k: tuple(v) if isinstance(v, list) else v
                  for k, v in model["preprocessing"].items()}  # fmt: skip
        classes = {name: model[name] for name in ("num_classes", "label_names")}
        check_config({**config, **classes}, f"The manifest of {self.folder}")
        images, photo = self._input(row, given, config)
        raw = torch.from_numpy(row.map.copy())
        if model["method"] not in METHODS:
            raise ValueError(f"there is no method {model['method']!r}")
        from_zero = model["method"] in FROM_ZERO_METHODS
        gate = torch.zeros(1, 0) if row.gate is None else torch.from_numpy(row.gate.copy())[None]
        # Class-gate maps select channels of each row by its class gate, which is not stored.
        selecting = torch.zeros(len(row.target), 0) if model["method"] == "class_gate" else gate
        size = tuple(images.shape[2:])
        placement = stored_placement(model, tuple(raw.shape[1:]))
        names, thresholds = model["label_names"], model["thresholds"]
        return Explanation(
            heatmap=to_heatmap(raw, from_zero, "image", size, placement),
            raw=raw,
            constant=torch.from_numpy(row.constant.copy()),
            logits=_logits(row, model)[None],
            gate=gate,
            class_gate=None,
            selection=select_channels(selecting),
            image_index=torch.zeros(len(row.target), dtype=torch.long),
            target=row.target,
            versus=row.versus,
            versus_weights=() if row.versus is None else (1.0,),
            placement=placement,
            method=model["method"],
            normalize="image",
            exact=row.exact,
            weights=row.weights,
            label_names=None if names is None else tuple(names),
            multi_label=model["multi_label"],
            thresholds=None if thresholds is None else tuple(thresholds),
            images=images,
            mean=config["mean"],
            std=config["std"],
            photos=(photo,),
        )

    def _input(
        self, row: Prediction, given: Any, config: Mapping[str, Any]
    ) -> Tuple[torch.Tensor, Photo]:
        """Return the model's input of a photo, (1, 3, H, W), and the photo."""
        picture = _opened(row, given)
        self._preprocess = self._preprocess or Preprocess(config)
        prepared = self._preprocess([row.id], [picture])
        [error], [region] = prepared.errors, prepared.regions
        if region is None:
            raise InvalidInputError(f"{row.id}: {error}")
        mean, std = (torch.tensor(config[k]).view(3, 1, 1) for k in ("mean", "std"))
        images = prepared.pixels.float().div(255).sub(mean).div(std)
        return images, Photo(row.id, picture.size, region, bounded(picture))

    def _read(self, file: Path) -> List[Prediction]:
        part, unit = place_of(file)
        first = unit * self.facts["rows"]["rows_per_file"]
        return _rows_in(file, read_rows(file), (part, first))


def stored_placement(model: Mapping[str, Any], grid: Tuple[int, ...]) -> Placement:
    """Return where the cells of a model's maps lie in its input.

    Args:
        model: Facts of the model, from the manifest.
        grid: Rows and columns of the maps.
    """
    x, y = model["map_offset"]
    # Folders of earlier versions do not say where cells lie that do not tile the input.
    size = tuple(model["preprocessing"]["input_size"][1:])
    return Placement(tuple(model.get("cells") or stretched(grid, size).cells), (x, y))


def load_predictions(folder: Union[str, Path]) -> Predictions:
    """Open a folder of ``se-zoo predict``.

    Args:
        folder: The folder. It may still lack rows.

    Returns:
        Its rows: iterate over them, or take one by its number.

    Raises:
        InvalidInputError: If it is no such folder.
    """
    return Predictions(folder)


def _opened(row: Prediction, given: Any) -> Image.Image:
    """Return the photo of a row as an upright RGB image."""
    try:
        return open_photo(given)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{row.id}: {error}") from error


def _rows_in(file: Path, table: Any, place: Tuple[int, int]) -> List[Prediction]:
    """Return the rows of a table, of which the first has the place."""
    part, first = place
    try:
        return [_prediction(row, (part, first + i)) for i, row in enumerate(table.to_pylist())]
    except (ValueError, TypeError) as error:  # cells that do not go together
        raise InvalidInputError(f"{file} holds no predictions: {error}") from error


def _prediction(cells: Dict[str, Any], place: Tuple[int, int]) -> Prediction:
    """Return a row of a parquet file."""
    target, grid = cells["target"] or [], cells["grid"] or [0, 0]
    flat = np.asarray(cells["map"] or [], dtype=np.float32)
    gate = cells["gate"]
    return Prediction(
        id=cells["id"],
        error=cells["error"],
        region=None if cells["region"] is None else tuple(cells["region"]),
        top=tuple((t["class"], t["label"], t["probability"]) for t in cells["top"] or []),
        target=tuple(target),
        label=tuple(cells["label"] or []),
        probability=tuple(cells["probability"] or []),
        versus=None if cells["versus"] is None else tuple(cells["versus"]),
        map=flat.reshape(len(target), *grid),
        constant=np.asarray(cells["constant"] or [], dtype=np.float32),
        exact=bool(cells["exact"]),
        weights=cells["weights"] or "",
        gate=None if gate is None else np.asarray(gate, dtype=np.float32),
        place=place,
    )


def _logits(row: Prediction, model: Mapping[str, Any]) -> torch.Tensor:
    """Return logits that give the probabilities of a row, (num_classes,)."""
    known = {index: probability for index, _, probability in row.top}
    known.update(zip(row.target, row.probability, strict=True))
    count = model["num_classes"]
    given = torch.tensor(list(known.values()), dtype=torch.float64)
    if model["multi_label"]:
        # Any probability above 0 could exceed a threshold, and the label count as predicted.
        logits = torch.full((count,), _UNKNOWN)
        logits[list(known)] = given.logit(1e-7).float()
        return logits
    rest = max(0.0, 1 - sum(known.values())) / max(1, count - len(known))
    found = torch.full((count,), rest, dtype=torch.float64)
    found[list(known)] = given
    return found.clamp(min=math.exp(-80)).log().float()
