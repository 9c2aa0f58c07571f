"""Write a page that explains photos in the browser: ``se-zoo space``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro

from ..files import check_new_folder
from ..zoo_names import check_name


@dataclass(frozen=True)
class Space:
    """Write a web page that predicts and explains in the browser; photos never leave it.

    The folder is complete: serve it with `python -m http.server -d DIR`, or upload it as a static
    Space of Hugging Face. Needs the extra export: pip install "se_zoo[export]".
    """

    model: tyro.conf.Positional[str]
    """Name of the zoo (se_zoo/...), architecture *_sehead, hf-hub:<repository> or
    local-dir:<folder>."""
    out: Path
    """Folder to write; it must not exist yet."""
    ort: Optional[Path] = None
    """Tarball of onnxruntime-web, from npm pack; by default it is downloaded from the npm registry
    once, checked, and kept in the cache."""


def run_space(args: Space) -> None:
    """Run ``se-zoo space``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If onnxruntime-web cannot be fetched, or the page cannot show the
            model.
        FileExistsError: If the folder is taken.
        UnknownModelError: With the closest names.
    """
    from ..demo.runtime import fetch_runtime

    check_name(args.model)
    check_new_folder(args.out)
    tarball = fetch_runtime(args.ort)
    from ..demo.space import write_space  # these import torch
    from ..models.load_model import load_model

    differences = write_space(load_model(args.model), args.model, args.out, tarball)
    shown = ", ".join(f"{name} {value:.0e}" for name, value in differences.items())
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file()) / 1e6
    print(f"{args.out}: a page of {size:.0f} MB; differences of onnxruntime from torch, relative: "
          f"{shown}\nTo see it: python -m http.server -d {args.out}")  # fmt: skip
