"""A model that explains itself as an ONNX file."""

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import torch

from ..errors import InvalidInputError
from ..files import replacing
from .explained_model import ExplainedModel

OUTPUTS = ("logits", "heatmap", "gate")
#: Largest difference between onnxruntime and torch that is let through, of a value of about 1.
TOLERANCE = 1e-4


def check_path(path: Path) -> None:
    """Whether the file can be written.

    Raises:
        InvalidInputError: If it cannot.
    """
    if path.suffix != ".onnx" or not path.parent.is_dir():
        raise InvalidInputError(f"{path} must end in .onnx, in a folder that exists.")


def write_onnx(explained: ExplainedModel, path: Path) -> Dict[str, float]:
    """Write one graph with the input ``images`` and the outputs ``logits``, ``heatmap`` and
    ``gate``, for any batch size; it is run by onnxruntime and compared before it is there.

    What a user needs to know stands in the file's metadata: labels, targets, method, and how images
    are resized, cut and normalised.

    Args:
        explained: What to write.
        path: Ends in ``.onnx``; its folder must exist.

    Returns:
        The largest difference of each output from torch's, in parts of its largest value (at least
        of 1), over batches of one and three.

    Raises:
        InvalidInputError: If the extra ``export`` is not installed, the path cannot be, or
            onnxruntime answers differently.
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
                output_names=list(OUTPUTS), dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )  # fmt: skip
        except Exception as error:  # torch's own kinds differ from version to version
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
                f"onnxruntime does not answer as torch does: {wrong}; nothing was written."
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
        "labels": None if labels is None else list(labels),
        "multi_label": explained.se_model.is_multi_label(),
        "mean": mean,
        "std": std,
        "input_size": list(explained.model.input_shape()),  # type: ignore[operator]
        **{name: config[name] for name in resizing if name in config},
    }


@torch.no_grad()
def compare(explained: ExplainedModel, file: Path) -> Dict[str, float]:
    """How far onnxruntime's answers are from torch's; see :func:`write_onnx`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst: Dict[str, float] = {name: 0.0 for name in OUTPUTS}
    for batch in (1, 3):
        images = _smooth(batch, explained.model.input_shape())  # type: ignore[operator]
        answers: Any = session.run(list(OUTPUTS), {"images": images.numpy()})
        for name, ours, theirs in zip(OUTPUTS, explained(images), answers, strict=True):
            if theirs.shape != tuple(ours.shape):
                worst[name] = float("inf")
                continue
            scale = max(1.0, float(ours.abs().max()))
            away = float((ours - torch.from_numpy(theirs)).abs().max()) / scale
            if not away <= worst[name]:  # NaN is worse than anything, which max() does not know
                worst[name] = away
    return worst


def _smooth(batch: int, shape: Tuple[int, ...]) -> torch.Tensor:
    """Images with structure: of noise, maps are almost flat, and stretching them to [0, 1] would
    stretch the rounding with them."""
    generator = torch.Generator().manual_seed(batch)
    small = torch.randn(batch, shape[0], *(max(2, n // 32) for n in shape[1:]), generator=generator)
    mode = "bilinear" if len(shape) == 3 else "trilinear"
    return torch.nn.functional.interpolate(small, size=shape[1:], mode=mode, align_corners=False)
