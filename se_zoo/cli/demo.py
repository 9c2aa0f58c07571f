"""Serve a demo in the browser: ``se-zoo demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

import tyro

from ..errors import InvalidInputError
from ..files import check_new_folder
from ..zoo_names import check_name


@dataclass(frozen=True)
class Demo:
    """Serve a demo: photos or videos in, predictions and maps out.

    Photos get the maps of all methods side by side. Videos are drawn on, by a clip model or by one
    that says who speaks.

    Needs the extra demo: pip install "se_zoo[demo]". A page without a server: se-zoo space.
    """

    models: tyro.conf.Positional[Tuple[str, ...]] = (
        "se_zoo/tf_efficientnet_lite0_in1k",
        "se_zoo/resnet18_slim_celeba",
        "se_zoo/asd_small_grid",
    )
    """Models to offer: se_zoo/<name>, hf-hub:<repository>, local-dir:<folder>, or any timm model,
    which gets an SE head that leaves its predictions as they are."""
    host: str = "127.0.0.1"
    """Address to listen on. With the default only this machine reaches the demo, and its users may
    name further timm models; elsewhere they may not."""
    port: Optional[int] = None
    """Port to listen on; by default the first free one from 7860."""
    out: Optional[Path] = None
    """Write the folder of a Gradio Space instead of serving; it must not exist yet."""


def run_demo(args: Demo) -> None:
    """Run ``se-zoo demo``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If the extra is missing, or there is no such port.
        FileExistsError: If the folder is taken.
        UnknownModelError: If a model is unknown.
        WeightsNotFoundError: If weights cannot be fetched.
    """
    if args.port is not None and not 1 <= args.port <= 65_535:
        raise InvalidInputError(f"--port must be from 1 to 65535, not {args.port}")
    for name in args.models:
        check_name(name)
    if args.out is not None:
        check_new_folder(args.out)
    from ..demo.server import serve  # these import torch
    from ..demo.server_space import write_server_space

    if args.out is None:
        serve(args.models, args.host, args.port)
    else:
        write_server_space(args.models, args.out)
        print(f"{args.out}: a Gradio Space of {', '.join(args.models)}")
