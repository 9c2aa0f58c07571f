"""Export of a model with its explanation as one ONNX file."""

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import torch

from ..errors import InvalidInputError
from ..files import replacing
from .explained_model import ExplainedModel

#: Largest allowed difference between onnxruntime and torch, relative to an output's largest value.
TOLERANCE = 1e-4


def check_path(path: Path) -> None:
    """Check that an ONNX file can be written to a path.

    Raises:
        InvalidInputError: If it has another ending, or its folder does not exist.
    """
    if path.suffix != ".onnx" or not path.parent.is_dir():
        raise InvalidInputError(f"{path} must end in .onnx and lie in a folder that exists.")


def write_onnx(explained: ExplainedModel, path: Path) -> Dict[str, float]:
    """Write an ONNX graph, after comparing onnxruntime's outputs with torch's.

    The graph has the input ``images`` and the outputs ``logits``, ``heatmap`` and ``gate``, and
    takes any batch size. For raw maps ``heatmap`` is called ``raw``. The file's metadata hold
    labels, targets and method, and how images are resized, cropped and normalised.

    Args:
        explained: Module to write, on the CPU.
        path: File to write; it ends in ``.onnx``, and its folder exists.

    Returns:
        The largest difference of each output from torch's over batches of one and three, relative
        to the output's largest value or 1, whichever is larger.

    Raises:
        InvalidInputError: If the extra ``export`` is not installed, the path cannot be written,
            torch cannot export the model, or onnxruntime's outputs differ from torch's.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            f"Writing ONNX needs the extra export: pip install 'se_zoo[export]' ({error})."
        ) from error
    check_path(path)
    device = next(explained.parameters()).device
    if device.type != "cpu":
        raise InvalidInputError(f"The model is on {device}; move it with .cpu() first.")
    images = torch.randn(2, *explained.model.input_shape())  # type: ignore[operator]
    with replacing(path) as file:
        try:
            program: Any = torch.onnx.export(
                explained, (images,), dynamo=True, input_names=["images"],
                output_names=list(explained.outputs),
                dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
            )  # fmt: skip
        except Exception as error:  # torch's error classes differ between versions
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise InvalidInputError(
                f"torch.onnx cannot export {type(explained.model).__name__}: {reason}"
            ) from error
        program.save(str(file), external_data=False)
        content = onnx.load(str(file))
        for key, value in _metadata(explained).items():
            content.metadata_props.add(key=key, value=json.dumps(value))
        onnx.save(content, str(file))
        found = compare(explained, file)
        wrong = {name: value for name, value in found.items() if not value <= TOLERANCE}
        if wrong:
            raise InvalidInputError(
                f"onnxruntime's outputs differ from torch's by {wrong}, more than {TOLERANCE}; "
                "nothing was written."
            )
    return found


def _metadata(explained: ExplainedModel) -> Dict[str, Any]:
    labels = explained.se_model.class_labels()
    mean, std = explained.se_model.image_stats()
    config = getattr(explained.model, "pretrained_cfg", {})
    resizing = ("interpolation", "crop_pct", "crop_mode")
    return {
        "method": explained.method,
        "targets": explained.targets,
        "normalize": explained.normalize,
        "map_offset": list(getattr(explained.model, "map_offset", (0.0, 0.0))),
        "labels": None if labels is None else list(labels),
        "multi_label": explained.se_model.is_multi_label(),
        "mean": mean,
        "std": std,
        "input_size": list(explained.model.input_shape()),  # type: ignore[operator]
        **{name: config[name] for name in resizing if name in config},
    }


@torch.no_grad()
def compare(explained: ExplainedModel, file: Path) -> Dict[str, float]:
    """Return the largest difference of each output from torch's; see :func:`write_onnx`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst: Dict[str, float] = {name: 0.0 for name in explained.outputs}
    for batch in (1, 3):
        images = _smooth(batch, explained.model.input_shape())  # type: ignore[operator]
        outputs: Any = session.run(list(worst), {"images": images.numpy()})
        for name, ours, theirs in zip(worst, explained(images), outputs, strict=True):
            if theirs.shape != tuple(ours.shape):
                worst[name] = float("inf")
                continue
            scale = max(1.0, float(ours.abs().max()))
            difference = float((ours - torch.from_numpy(theirs)).abs().max()) / scale
            if not difference <= worst[name]:  # unlike max(), this keeps NaN
                worst[name] = difference
    return worst


def _smooth(batch: int, shape: Tuple[int, ...]) -> torch.Tensor:
    """Return smooth random images.

    Maps of white noise are almost flat. Stretching them to [0, 1] would magnify their rounding.
    """
    generator = torch.Generator().manual_seed(batch)
    small = torch.randn(batch, shape[0], *(max(2, n // 32) for n in shape[1:]), generator=generator)
    mode = "bilinear" if len(shape) == 3 else "trilinear"
    return torch.nn.functional.interpolate(small, size=shape[1:], mode=mode, align_corners=False)
