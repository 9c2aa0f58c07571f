"""Where weights come from: only safetensors, and one clear error when they cannot be had."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from timm.models._hub import load_model_config_from_hf, load_model_config_from_path

from ..errors import UnknownModelError, WeightsNotFoundError

#: The organisation on the Hugging Face Hub; ``SE_ZOO_HUB_ORG`` overrides it.
HUB_ORG = "se-zoo"
WEIGHTS_NAME = "model.safetensors"
WEIGHTS_FOLDER = Path(__file__).parent / "weights"

#: Models whose weights lie inside the package: se_zoo name -> registry name.
BUNDLED = {"se_zoo/resnet18_slim_celeba": "resnet18_slim_sehead.celeba"}


def bundled_file(backbone: str, tag: str) -> Path:
    """Where the package keeps a model's weights, if it is bundled."""
    return WEIGHTS_FOLDER / f"{backbone}_{tag}.safetensors"


def hub_repo(cfg: Dict[str, Any]) -> str:
    """The Hub repository of a config's weights, ``SE_ZOO_HUB_ORG`` heeded; may end in @revision."""
    repo: str = cfg.get("hf_hub_id") or ""
    if cfg.get("source") != "hf-hub" and repo.startswith(f"{HUB_ORG}/"):
        return f"{os.environ.get('SE_ZOO_HUB_ORG') or HUB_ORG}/{repo.split('/', 1)[1]}"
    return repo


def local_source(cfg: Dict[str, Any], cache_dir: Any = None) -> Dict[str, Any]:
    """What to change in a pretrained cfg so that timm loads one local safetensors file.

    Repositories are asked for their safetensors by name and timm never sees their address: it
    falls back to a pickle where there are none, and timm 1.0.21 unpickles whatever it is told to
    fetch by name. The organisation is the one in force now.

    Args:
        cfg: The pretrained cfg, as timm resolves it.
        cache_dir: Where downloads are kept; huggingface_hub's own place by default.

    Raises:
        WeightsNotFoundError: If there are no weights, or none as safetensors.
        HfHubHTTPError, OSError: From the Hub's client.
    """
    source, file = cfg.get("source"), cfg.get("file")
    if source == "local-dir":
        path = Path(str(file)) / WEIGHTS_NAME
        if not path.is_file():
            raise WeightsNotFoundError(
                f"{file} has no {WEIGHTS_NAME}; se_zoo loads safetensors only, no pickle. Save "
                "with save_for_hf(model, folder, safe_serialization=True)."
            )
    elif source != "hf-hub" and cfg.get("state_dict"):
        return {}
    elif source != "hf-hub" and file:
        path = Path(file)
        if path.suffix != ".safetensors":
            raise WeightsNotFoundError(
                f"{file} is not a .safetensors file; se_zoo loads no pickle."
            )
    elif cfg.get("hf_hub_id"):
        repo, _, revision = hub_repo(cfg).partition("@")
        path = Path(
            hf_hub_download(repo, WEIGHTS_NAME, revision=revision or None, cache_dir=cache_dir)
        )
    else:
        url = cfg.get("url")
        raise WeightsNotFoundError(
            f"There are no weights for {cfg.get('architecture')} as safetensors"
            + (f", only a pickle at {url}, which se_zoo does not load." if url else ".")
            + " Use pretrained=False for random weights."
        )
    # A ViT's own loader reads JAX's .npz alone; timm 1.0.21 would give it any file.
    return {"file": str(path), "source": "local-file", "custom_load": False}


def described_model(name: str, cache_dir: Any = None) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """Architecture, pretrained cfg and model arguments of ``hf-hub:<repo>`` or
    ``local-dir:<folder>``, from its config.json; no weights are touched.

    Raises:
        UnknownModelError: If there is no such place, or its config.json cannot be read.
    """
    scheme, _, place = name.partition(":")
    try:
        if scheme == "hf-hub":
            cfg, architecture, args = load_model_config_from_hf(place, cache_dir=cache_dir)
        elif scheme == "local-dir":
            cfg, architecture, args = load_model_config_from_path(place)
        else:
            raise ValueError("a place is hf-hub:<repository> or local-dir:<folder>")
    except (HfHubHTTPError, OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModelError(
            f"{name} describes no model that timm can create. {type(error).__name__}: {error}"
        ) from error
    return architecture, cfg, args or {}


def restore_source(model: Any, cfg: Dict[str, Any]) -> None:
    """Make a model's config name where its weights came from, not this machine's copy of them."""
    changed = ("file", "source", "custom_load")
    kept = {k: v for k, v in model.pretrained_cfg.items() if k not in changed}
    kept.update({k: cfg[k] for k in changed if k in cfg})
    if kept.get("hf_hub_id"):
        kept["hf_hub_id"] = hub_repo(cfg)
    model.pretrained_cfg = model.default_cfg = kept


@contextmanager
def clear_errors(variant: str, cfg: Dict[str, Any]) -> Iterator[None]:
    """Turn a failed download, or a file that cannot be read, into one error that says what was
    asked and what to do.

    Args:
        variant: Registry name of the architecture.
        cfg: The pretrained cfg whose weights are being loaded.

    Raises:
        WeightsNotFoundError: From the client's own error, whose cause it quotes.
    """
    try:
        yield
    except (HfHubHTTPError, HFValidationError, OSError, SafetensorError) as error:
        tag = cfg.get("tag") or ""
        name = f"{variant}.{tag}" if tag else variant
        repo = cfg.get("file") or hub_repo(cfg)  # in timm's order
        cause = " ".join(str(error).split())
        train = ""
        if tag == "celeba":
            ours = timm.is_model(variant.removesuffix("_sehead"))
            options = f"--model.name {variant}" + (" --model.pretrained" if ours else "")
            train = f" Train it, in a clone of the project: `python recipes/celeba.py {options}`."
        elif tag == "in1k":
            train = " No recipe of this project trains on ImageNet-1k yet."
        own = repo.startswith(f"{HUB_ORG}/") and not cfg.get("file")
        unpublished = " This version of se_zoo knows of no publication." if own else ""
        raise WeightsNotFoundError(
            f"The weights of {name} could not be had from {repo}.{unpublished}"
            f" {type(error).__name__}: {cause} Only {WEIGHTS_NAME} is ever asked for."
            f" Bundled with the package: {', '.join(BUNDLED)}.{train}"
            " Use pretrained=False for random weights."
        ) from error
