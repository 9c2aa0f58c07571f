"""Export a model with its explanation as one file for other runtimes: ``se-zoo export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional, Tuple

import tyro

from ..errors import InvalidInputError
from ..zoo_names import check_name, short_name


@dataclass(frozen=True)
class Export:
    """Write a model and its explanation as one graph: images in, logits, heatmap and gate out.

    The graph of a speaker model takes sound and face crops, and gives the shares of both, too.
    Needs the extra export: pip install "se_zoo[export]".
    """

    model: tyro.conf.Positional[str]
    """Name of the zoo (se_zoo/...), architecture *_sehead, hf-hub:<repository> or
    local-dir:<folder>."""
    format: Literal["onnx"] = "onnx"
    """onnx: any batch size, at the model's own input size; speaker models: clips of any length. The
    graph is run with onnxruntime and compared with torch before it is written."""
    out: Optional[Path] = None
    """File to write; by default the model's name with the format as its ending. An existing one is
    replaced."""
    method: Optional[
        Literal["contribution", "affinity", "rivals", "support", "class_gate", "gate", "activation"]
    ] = None  # fmt: skip
    """Kind of heatmap, by default the model's own. gate and activation give one for each image, the
    others one for each target. Speaker models have gate and activation."""
    target: Tuple[str, ...] = ()
    """Labels or class indices of the maps; by default all classes."""
    normalize: Optional[float] = None
    """Raw value that becomes 1 in every heatmap, so that heatmaps can be compared; by default the
    strongest spot of each heatmap is 1."""


def run_export(args: Export) -> None:
    """Run ``se-zoo export``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If the map needs a gradient, an option is not for this kind of model, or
            the graph does not answer as the model does.
        UnknownModelError: With the closest names.
    """
    check_name(args.model)
    from ..explanations.explained_model import ExplainedModel
    from ..explanations.explained_speaker import ExplainedSpeaker
    from ..explanations.onnx_export import check_path, write_onnx
    from ..explanations.target_classes import target_of
    from ..inference.batch import weights_sha256
    from ..models import SpeakerModel
    from ..models.load_model import load_any

    out = args.out or Path(f"{short_name(args.model)}.{args.format}")
    check_path(out)
    model = load_any(args.model)
    if isinstance(model, SpeakerModel):
        if args.target or args.normalize is not None:
            raise InvalidInputError(
                f"{args.model} is a speaker model, with one heatmap a frame; leave out --target "
                "and --normalize."
            )
        explained, maps = ExplainedSpeaker(model, args.method), "a heatmap a frame"
    else:
        labels, classes = model.class_labels(), model.num_classes
        targets = [target_of(text, labels, classes) for text in args.target] or None
        normalize = "image" if args.normalize is None else args.normalize
        explained = ExplainedModel(model, args.method, targets, normalize)
        count = len(explained.targets) or 1
        maps = f"{count} heatmap{'s'[: count > 1]} an image"
    # As in predict.json of `se-zoo predict`: so both can be told to be of the same weights.
    differences = write_onnx(explained, out, {"weights_sha256": weights_sha256(model)})
    size = out.stat().st_size / 1e6
    shown = ", ".join(f"{name} {value:.0e}" for name, value in differences.items())
    print(f"{out}: {size:.1f} MB, {maps}; differences of onnxruntime from torch, relative: {shown}")
