"""Predict and explain batches of photos, columns in and columns out, for any engine."""

import hashlib
import threading
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union, cast

import torch

from ..errors import InvalidInputError
from ..explanations.class_token import is_traced
from ..explanations.explainer import raw_maps
from ..explanations.methods import default_method
from ..explanations.se_model import placement_of
from ..explanations.target_classes import label_index
from ..models.input_size import data_config
from ..models.load_model import load_model
from .prepare import Prepared, Preprocess
from .rows import columns_of, kept_classes, schema


class BatchExplainer:
    """Predict and explain batches of photos: a dict of columns in, a dict of columns out.

    The model is loaded once, on the first batch, so that an object made from a name is small and
    can be sent to other processes. A photo that cannot be read is a row with an ``error``; it
    never fails its batch.

    Args:
        model: Name of a model (``se_zoo/<name>``, ``hf-hub:<repo>``, ``local-dir:<folder>``), or
            an SE model.
        target: A label or class index, or several; by default what the model predicts.
        method: Which map; by default the model's own. See :func:`se_zoo.explain`.
        versus: The other class of a difference map.
        top: Number of most probable classes that a row keeps; by default 5, and all of a model
            with independent labels.
        gate: Whether rows keep the SE vector.
        device: Where the model runs; by default the GPU if there is one, else the CPU.
        name: What the model is called in :meth:`facts`; by default its name or class.

    Example:
        >>> explain = se_zoo.BatchExplainer("se_zoo/resnet18_slim_celeba", target="Smiling")
        >>> explain({"id": ["me"], "image": [open("me.jpg", "rb").read()]})["probability"]
    """

    versus: int | str | None
    top: int | None
    target: "int | str | Sequence[int | str] | None"
    name: str
    gate: bool
    device: str | None

    def __init__(
        self,
        model: Any,
        target: Union[int, str, Sequence[Union[int, str]], None] = None,
        method: Optional[str] = None,
        *,
        versus: Union[int, str, None] = None,
        top: Optional[int] = None,
        gate: bool = False,
        device: Optional[str] = None,
        name: Optional[str] = None,
    ):
        if top is not None and top < 1:
            raise InvalidInputError(f"top must be at least 1, not {top}.")
        schema()  # without pyarrow, refuse before a model is loaded
        self.name = name or (model if isinstance(model, str) else type(model).__name__)
        self.target, self.method, self.versus = target, method, versus
        self.top, self.gate, self.device = top, gate, device
        self._given = model
        self._ready: Optional[Tuple[Any, Preprocess]] = None
        self._cells: Tuple[float, ...] = ()
        self._lock = threading.Lock()

    def __getstate__(self) -> Dict[str, Any]:
        """Leave out the loaded model: the receiver loads it by its name, or was given it."""
        state = {**self.__dict__, "_ready": None}
        del state["_lock"]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        """Take what :meth:`__getstate__` kept."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _load(self) -> Tuple[Any, Preprocess]:
        with self._lock:  # several threads that begin together load it once
            if self._ready is None:
                model = self._given
                model = load_model(model) if isinstance(model, str) else model
                if model.takes_clips:
                    raise InvalidInputError(f"{self.name} takes clips, not photos.")
                device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
                model = model.eval().to(device)
                self.method = self._check_options(model)
                self._ready = model, Preprocess(data_config(model))
            return self._ready

    def _check_options(self, model: Any) -> str:
        """Return the method; options that do not fit the model must not become errors of rows."""
        target: Any = self.target
        if target is None and self.versus is not None:
            other = label_index(self.versus, model.class_labels(), model.num_classes)
            target = 0 if other else min(1, model.num_classes - 1)
        blank = torch.zeros(1, *data_config(model)["input_size"])
        found = raw_maps(model, blank, target, self.method, self.versus)
        grid, size = tuple(found.maps.raw.shape[1:]), tuple(blank.shape[2:])
        self._cells = placement_of(model, grid, size).cells
        return found.method

    @property
    def model(self) -> Any:
        """The model, in eval mode on the device; loaded on first use.

        Raises:
            InvalidInputError: If it takes clips, or the options do not fit it.
            UnknownLabelError: If it has no such class.
            UnknownModelError: If there is no such model.
            WeightsNotFoundError: If the weights cannot be loaded.
        """
        return self._load()[0]

    @property
    def preprocess(self) -> Preprocess:
        """What makes the model's input of photos; for loader processes."""
        return self._load()[1]

    def __call__(self, batch: Any) -> Any:
        """Predict and explain a batch.

        Args:
            batch: Columns ``image`` and ``id`` (or ``path``), as a dict or an Arrow table. Images
                are encoded bytes, paths, PIL images, uint8 arrays (H, W, 3), or dicts with
                ``bytes`` or ``path``.

        Returns:
            A row a photo in the columns of :func:`schema`; an Arrow table for an Arrow table, else
            a dict of lists.

        Raises:
            InvalidInputError: If a column is missing, or the options do not fit the model.
            UnknownLabelError: If the model has no such class.
        """
        columns = batch.to_pydict() if hasattr(batch, "to_pydict") else batch
        ids = columns["id"] if "id" in columns else columns.get("path")
        if ids is None or "image" not in columns:
            raise InvalidInputError(
                f"a batch needs the columns image, and id or path; it has {', '.join(columns)}."
            )
        # Names of files may hold bytes that are no text, and Arrow's texts must be UTF-8.
        names = [str(name).encode("utf-8", "backslashreplace").decode("utf-8") for name in ids]
        table = self.explain(self.preprocess(names, list(columns["image"])))
        return table if columns is not batch else table.to_pydict()

    def explain(self, photos: Prepared) -> Any:
        """Predict and explain prepared photos.

        Args:
            photos: The result of :attr:`preprocess`.

        Returns:
            A ``pyarrow.Table`` with a row a photo.
        """
        import pyarrow as pa

        usable = [i for i, error in enumerate(photos.errors) if error is None]
        errors, where = list(photos.errors), [None] * len(photos.ids)
        tables: List[Any] = [schema().empty_table().drop(["id", "error", "region"])]
        for part, found in self._found(photos.pixels):
            if isinstance(found, InvalidInputError):
                errors[usable[part.start]] = str(found)
                continue
            for row in range(part.start, part.stop):
                where[usable[row]] = sum(map(len, tables)) + row - part.start  # type: ignore
            tables.append(found)
        table = pa.concat_tables(tables).take(pa.array(where, pa.int32()))
        given = {"id": photos.ids, "error": errors, "region": photos.regions}
        for place, (name, values) in enumerate(given.items()):
            field = schema().field(name)
            table = table.add_column(place, field, pa.array(values, field.type))
        return table.combine_chunks()

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return prepared pixels as the model's input, on its device.

        Args:
            pixels: uint8 (B, 3, H, W).

        Returns:
            float32 (B, 3, H, W).
        """
        device = next(self.model.parameters()).device
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in self.model.image_stats())
        return pixels.to(device, non_blocking=True).float().div_(255).sub_(mean).div_(std)

    def _found(self, pixels: torch.Tensor) -> List[Tuple[slice, Any]]:
        """Return tables of slices of a batch; a batch that the model refuses, photo by photo."""
        if not len(pixels):
            return []
        try:
            return [(slice(0, len(pixels)), self._table(pixels))]
        except InvalidInputError as error:
            if len(pixels) == 1:
                return [(slice(0, 1), error)]
        parts = [(i, self._found(pixels[i : i + 1])[0][1]) for i in range(len(pixels))]
        return [(slice(i, i + 1), found) for i, found in parts]

    def _table(self, pixels: torch.Tensor) -> Any:
        """Return the columns that the model gives for uint8 pixels (B, 3, H, W)."""
        model, target = self.model, cast(Any, self.target)
        found = raw_maps(model, self.normalized(pixels), target, self.method, self.versus)
        if float(found.maps.raw.abs().amax()) > torch.finfo(torch.float16).max:
            raise InvalidInputError("the map has values that 16-bit floats cannot hold")
        return columns_of(model, found, self.top, self.gate)

    def facts(self) -> Dict[str, Any]:
        """Return what the rows depend on: the model, its weights, and what is asked of it.

        Returns:
            Values that JSON can store, by name.

        Raises:
            InvalidInputError: If the options do not fit the model.
            UnknownLabelError: If the model has no such class.
        """
        model = self.model
        labels, classes = model.class_labels(), model.num_classes
        several = isinstance(self.target, (list, tuple))
        asked: Any = [] if self.target is None else self.target if several else [self.target]
        versus = None if self.versus is None else label_index(self.versus, labels, classes)
        # Rows of earlier versions, whose maps of transformers were others, are not gone on with.
        traced = is_traced(model, self.method or default_method(model))
        tokens = {"tokens": "of several blocks"} if traced else {}
        return {
            **tokens,
            "model": self.name,
            "weights_sha256": weights_sha256(model),
            "method": self.method,
            "target": [label_index(t, labels, classes) for t in asked] or None,
            "versus": versus,
            "top": kept_classes(model, self.top),
            "gate": self.gate,
            "num_classes": classes,
            "label_names": None if labels is None else list(labels),
            "multi_label": model.is_multi_label(),
            "cells": list(self._cells),
            "map_offset": list(model.map_offset),
            "thresholds": None if model.thresholds is None else list(model.thresholds),
            "preprocessing": {
                k: list(v) if isinstance(v, tuple) else v for k, v in data_config(model).items()
            },
        }


def weights_sha256(model: torch.nn.Module) -> str:
    """Return the SHA-256 of a model's weights and buffers, whatever device they are on."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        # torch's quantised layers keep types, and tuples of a quantised weight and a bias.
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(part, torch.Tensor):
                digest.update(f"{name} {part}\n".encode())
                continue
            tensor = part.detach()
            if tensor.is_quantized or type(part) not in (torch.Tensor, torch.nn.Parameter):
                tensor = tensor.dequantize()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            content: Any = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(content)
    return digest.hexdigest()
