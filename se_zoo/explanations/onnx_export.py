"""Export of a model with its explanation as one ONNX file."""

import json
import warnings
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

import torch

from ..errors import InvalidInputError
from ..files import replacing
from ..version import __version__
from .explained_model import ExplainedModel
from .explained_speaker import ExplainedSpeaker
from .recurrent import onnx_translations

#: Most bytes of weights that one file holds: it is a message of Protocol Buffers, of 2 GiB at most.
MOST_BYTES = 2**31 - 2**24
#: Largest allowed difference between onnxruntime and torch, relative to an output's largest value.
TOLERANCE = 1e-4


def check_path(path: Path) -> None:
    """Check that an ONNX file can be written to a path.

    Raises:
        InvalidInputError: If it has another ending, or its folder does not exist.
    """
    if path.suffix != ".onnx" or not path.parent.is_dir():
        raise InvalidInputError(f"{path} must end in .onnx and lie in a folder that exists.")


def write_onnx(
    explained: Union[ExplainedModel, ExplainedSpeaker],
    path: Path,
    more: Optional[Mapping[str, Any]] = None,
) -> Dict[str, float]:
    """Write an ONNX graph, after comparing onnxruntime's outputs with torch's.

    The graph takes any batch size, and has inputs and outputs of the names in the module's
    ``inputs`` and ``outputs``. The graph of a speaker model takes clips of any length, too. The
    file's metadata hold labels, method and the version of se_zoo, of image models also targets and
    how images are resized, cropped and normalised.

    Args:
        explained: Module to write, on the CPU.
        path: File to write; it ends in ``.onnx``, and its folder exists.
        more: Further entries of the metadata, as JSON can store them.

    Returns:
        The largest difference of each output from torch's over batches of one and three images, and
        larger ones while an output is 0 everywhere, relative to the output's largest value or 1,
        whichever is larger.

    Raises:
        InvalidInputError: If the extra ``export`` is not installed, the path cannot be written,
            the weights are too large for one file, torch cannot export the model, or onnxruntime's
            outputs differ from torch's.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            f'Writing ONNX needs the extra export: pip install "se_zoo[export]" ({error}).'
        ) from error
    check_path(path)
    device = next(explained.parameters()).device
    if device.type != "cpu":
        raise InvalidInputError(f"The model is on {device}; move it with .cpu() first.")
    tensors = (*explained.parameters(), *explained.buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > MOST_BYTES:
        raise InvalidInputError(
            f"The model's weights have {size:,} bytes, and one file of ONNX holds at most "
            f"{MOST_BYTES:,}; export a smaller model, or use torch.export."
        )
    with replacing(path) as file, warnings.catch_warnings():
        # That two inputs share an axis, as those of speaker models do.
        warnings.filterwarnings("ignore", "# The axis name")
        try:
            program: Any = torch.onnx.export(
                explained, explained.sample_inputs(2), dynamo=True,
                input_names=list(explained.inputs), output_names=list(explained.outputs),
                dynamic_shapes=explained.free_axes(), verbose=False,
                custom_translation_table=onnx_translations(),
            )  # fmt: skip
        except Exception as error:  # torch's error classes differ between versions
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise InvalidInputError(
                f"torch.onnx cannot export {type(explained.model).__name__}: {reason}"
            ) from error
        program.save(str(file), external_data=False)
        content = onnx.load(str(file))
        facts = {**explained.facts(), "se_zoo": __version__, **(more or {})}
        for key, value in facts.items():
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


@torch.no_grad()
def compare(explained: Union[ExplainedModel, ExplainedSpeaker], file: Path) -> Dict[str, float]:
    """Return the largest difference of each output from torch's; see :func:`write_onnx`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst: Dict[str, float] = {name: 0.0 for name in explained.outputs}
    empty = set(worst)
    for batch in (1, 3, 8, 16):
        # A map without evidence for its label is empty; a few more images may have some.
        if batch > 3 and not empty:
            break
        inputs = explained.sample_inputs(batch)
        named = {name: t.numpy() for name, t in zip(explained.inputs, inputs, strict=True)}
        outputs: Any = session.run(list(worst), named)
        for name, ours, theirs in zip(worst, explained(*inputs), outputs, strict=True):
            if theirs.shape != tuple(ours.shape):
                worst[name] = float("inf")
                continue
            if ours.any():
                empty.discard(name)
            scale = max(1.0, float(ours.abs().max()))
            difference = float((ours - torch.from_numpy(theirs)).abs().max()) / scale
            if not difference <= worst[name]:  # unlike max(), this keeps NaN
                worst[name] = difference
    return worst
