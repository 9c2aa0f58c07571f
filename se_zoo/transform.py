"""Make timm's transform for evaluation, the same on all versions of timm."""

from typing import Any, Mapping


def evaluation_transform(config: Mapping[str, Any], **options: Any) -> Any:
    """Return the transform that brings a photo into the form that a model takes.

    Up to timm 1.0.30 ``create_transform`` resizes photos for an input that is not square with
    bilinear interpolation, whatever the config says. That moves the probabilities of face models by
    up to 17 points.

    Args:
        config: Preprocessing of a model, of ``timm.data.resolve_data_config``.
        options: Further arguments of ``timm.data.create_transform``.

    Returns:
        A transform of PIL images.
    """
    from timm.data.transforms import ResizeKeepRatio, str_to_interp_mode
    from timm.data.transforms_factory import create_transform

    transform: Any = create_transform(**config, **options)
    wanted = config["interpolation"]
    for step in transform.transforms:
        if isinstance(step, ResizeKeepRatio) and wanted != "random":
            step.interpolation = str_to_interp_mode(wanted)
    return transform
