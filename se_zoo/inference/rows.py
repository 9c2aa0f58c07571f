"""The rows that predictions are stored in: one a photo, of fixed columns."""

from functools import lru_cache
from typing import Any, Optional

import numpy as np
import torch

from ..errors import InvalidInputError
from ..explanations.explainer import RawMaps

#: Classes that a row keeps by default, if classes compete.
TOP = 5


@lru_cache(maxsize=1)
def schema() -> Any:
    """Return the columns of a row, a ``pyarrow.Schema``.

    Of a photo: ``id``; ``error``, null if there is none; ``region``, the part that the model saw
    (x0, y0, x1, y1, pixels of the upright photo); ``top``, the most probable classes; ``gate``,
    null unless it was asked for. Of each explained class, in lists of the same length: ``target``,
    ``label``, ``probability``, ``versus`` (difference maps), ``map`` at the backbone's ``grid``,
    flat, and ``constant``. Where ``exact``, a map's mean plus its constant is what
    it explains: the logit, of rival and difference maps less those of the other classes;
    ``weights`` says where the channel weights come from.

    Raises:
        InvalidInputError: If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise InvalidInputError(
            'pyarrow, which holds the rows, is not installed: pip install "se_zoo[predict]"'
        ) from None
    number, half, text = pa.int32(), pa.float16(), pa.string()
    top = [("class", number), ("label", text), ("probability", pa.float32())]
    return pa.schema([
        ("id", text),
        ("error", text),
        ("region", pa.list_(pa.float32())),
        ("top", pa.list_(pa.struct(top))),
        ("target", pa.list_(number)),
        ("label", pa.list_(text)),
        ("probability", pa.list_(pa.float32())),
        ("versus", pa.list_(number)),
        ("constant", pa.list_(pa.float32())),
        ("map", pa.list_(pa.list_(half))),
        ("grid", pa.list_(number)),
        ("exact", pa.bool_()),
        ("weights", text),
        ("gate", pa.list_(half)),
    ])  # fmt: skip


def kept_classes(model: Any, top: Optional[int]) -> int:
    """Return how many classes a row keeps."""
    wanted = top or (model.num_classes if model.is_multi_label() else TOP)
    return min(wanted, model.num_classes)


def columns_of(model: Any, found: RawMaps, top: Optional[int], gate: bool) -> Any:
    """Return the columns of a batch as a ``pyarrow.Table`` without ids, errors and regions."""
    import pyarrow as pa

    logits = found.logits.float()
    probabilities = logits.sigmoid() if model.is_multi_label() else logits.softmax(1)
    best, classes = probabilities.sort(dim=1, descending=True, stable=True)
    kept, batch = kept_classes(model, top), len(logits)
    targets, maps = torch.tensor(found.target, device=logits.device), found.maps
    of_target = probabilities[found.image_index, targets]
    names = pa.array(model.class_labels() or [str(i) for i in range(model.num_classes)])

    def values(tensor: torch.Tensor, kind: Any) -> Any:
        return pa.array(np.ravel(tensor.detach().cpu().numpy().astype(kind)))

    def lists(flat: Any, ends: Any) -> Any:
        return pa.ListArray.from_arrays(pa.array(np.asarray(ends, np.int32)), flat)

    def equal(flat: Any, count: int) -> Any:
        return lists(flat, np.arange(count + 1) * (len(flat) // count))

    counts = found.image_index.bincount(minlength=batch).cpu().numpy()
    ends = np.concatenate([[0], np.cumsum(counts)])
    target, top_class = values(targets, "int32"), values(classes[:, :kept], "int32")
    top_list = pa.StructArray.from_arrays(
        [top_class, names.take(top_class), values(best[:, :kept], "float32")],
        ["class", "label", "probability"],
    )
    cells = equal(values(maps.raw, "float16"), len(target))
    nothing = pa.nulls(batch)
    columns = {
        "top": equal(top_list, batch),
        "target": lists(target, ends),
        "label": lists(names.take(target), ends),
        "probability": lists(values(of_target, "float32"), ends),
        "versus": nothing if found.versus is None else lists(pa.array(found.versus), ends),
        "constant": lists(values(maps.constant, "float32"), ends),
        "map": lists(cells, ends),
        "grid": pa.array([list(maps.raw.shape[1:])] * batch),
        "exact": pa.array([maps.exact] * batch),
        "weights": pa.array([maps.source] * batch),
        "gate": equal(values(found.gate.float(), "float16"), batch) if gate else nothing,
    }
    plain = schema()
    for name in ("id", "error", "region"):
        plain = plain.remove(plain.get_field_index(name))
    return pa.table(columns).cast(plain)
