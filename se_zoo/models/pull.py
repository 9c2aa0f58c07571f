"""Where weights come from: only safetensors, and one clear error when they cannot be had."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError

from ..errors import WeightsNotFoundError

#: The organisation on the Hugging Face Hub; ``SE_ZOO_HUB_ORG`` overrides it.
HUB_ORG = "se-zoo"
WEIGHTS_NAME = "model.safetensors"
WEIGHTS_FOLDER = Path(__file__).parent / "weights"


def bundled_file(backbone: str, tag: str) -> Path:
    """Where the package keeps a model's weights, if it is bundled."""
    return WEIGHTS_FOLDER / f"{backbone}_{tag}.safetensors"


def source_overlay(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """What to change in a pretrained cfg before timm loads it.

    The organisation is the one in force now, and a Hub repository is asked for its safetensors
    by name: one that has only a pickle then fails instead of being unpickled.

    Raises:
        WeightsNotFoundError: If a local file or folder has no safetensors.
    """
    overlay: Dict[str, Any] = {}
    if cfg.get("source") == "local-dir":
        file = Path(cfg["file"]) / WEIGHTS_NAME
        if not file.is_file():
            raise WeightsNotFoundError(
                f"{file.parent} has no {WEIGHTS_NAME}; se_zoo loads safetensors only, no pickle."
            )
        # Named as a file, because timm 1.0.21 takes whatever a local-dir holds for a pickle.
        return {"file": str(file), "source": "local-file", "custom_load": False}
    if cfg.get("file"):
        if not str(cfg["file"]).endswith(".safetensors"):
            raise WeightsNotFoundError(
                f"{cfg['file']} is not a .safetensors file; se_zoo loads no pickle."
            )
        # A ViT's own loader reads JAX's .npz alone; timm 1.0.21 would give it any file.
        overlay["custom_load"] = False
    hub_id = cfg.get("hf_hub_id") or ""
    if hub_id:
        overlay["hf_hub_filename"] = WEIGHTS_NAME
        overlay["url"] = ""
    organisation = os.environ.get("SE_ZOO_HUB_ORG", HUB_ORG)
    if (
        cfg.get("source") != "hf-hub"
        and hub_id.startswith(f"{HUB_ORG}/")
        and organisation != HUB_ORG
    ):
        overlay["hf_hub_id"] = f"{organisation}/{hub_id.split('/', 1)[1]}"
    return overlay


@contextmanager
def clear_errors(variant: str, cfg: Dict[str, Any], bundled: Dict[str, str]) -> Iterator[None]:
    """Turn a failed download, or a file that cannot be read, into one error that says what was
    asked and what to do.

    Args:
        variant: Registry name of the architecture.
        cfg: The pretrained cfg whose weights are being loaded.
        bundled: Names of the models whose weights lie inside the package.

    Raises:
        WeightsNotFoundError: From the client's own error, whose cause it quotes.
    """
    try:
        yield
    except (HfHubHTTPError, OSError, SafetensorError) as error:
        tag = cfg.get("tag") or ""
        name = f"{variant}.{tag}" if tag else variant
        repo = cfg.get("file") or cfg.get("hf_hub_id")  # in timm's order
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        train = ""
        if tag == "celeba":
            train = f" Train it: `python recipes/celeba.py --model {variant} --pretrained`."
        elif tag == "in1k":
            train = " No recipe of this project trains on ImageNet-1k yet."
        raise WeightsNotFoundError(
            f"The weights of {name} could not be had from {repo} ({type(error).__name__}: {cause})."
            f" Bundled with the package: {', '.join(bundled) or 'none'}.{train}"
            " Use pretrained=False for random weights."
        ) from error
