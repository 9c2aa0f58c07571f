"""Where weights come from: only safetensors, of a known commit where there is one."""

import errno
import inspect
import os
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from timm.models import build_model_with_cfg

from ...errors import UnknownModelError, WeightsNotFoundError
from .._timm import load_model_config_from_hf, load_model_config_from_path
from .manifest import packaged_sha256, published, sha256_of

#: The organisation on the Hugging Face Hub; ``SE_ZOO_HUB_ORG`` overrides it.
HUB_ORG = "se-zoo"
WEIGHTS_NAME = "model.safetensors"
#: What reading a config.json, or creating what it describes, raises where it is not in order.
UNREADABLE = (HfHubHTTPError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


def hub_repo(cfg: Dict[str, Any]) -> str:
    """The Hub repository of a config's weights, ``SE_ZOO_HUB_ORG`` heeded; ends in @revision where
    one was named, or where the zoo's manifest knows the commit.
    """
    repo: str = cfg.get("hf_hub_id") or ""
    if cfg.get("source") == "hf-hub" or not repo.startswith(f"{HUB_ORG}/"):
        return repo
    repo = f"{os.environ.get('SE_ZOO_HUB_ORG') or HUB_ORG}/{repo.split('/', 1)[1]}"
    known = published(repo)
    return repo if "@" in repo or known is None else f"{repo}@{known.commit}"


def source_name(cfg: Dict[str, Any]) -> str:
    """Where a config's weights come from, for messages: a file or a repository, in timm's order."""
    return str(cfg.get("file") or hub_repo(cfg) or cfg.get("url"))


def fetch(repo: str, cache_dir: Any = None) -> Path:
    """The safetensors file of a repository, downloaded unless it is in the cache.

    The Hub's client compares sizes alone, so the file is hashed whenever its SHA-256 is known: from
    the manifest, or because the Hub keeps large files under it. (Where the cache has no symbolic
    links, only the manifest knows it.)

    Args:
        repo: Repository, with ``@revision`` or without.
        cache_dir: Where downloads are kept; huggingface_hub's own place by default.

    Raises:
        WeightsNotFoundError: If the file is not the one that was published; it is removed.
        HfHubHTTPError, OSError: From the Hub's client.
    """
    name, _, revision = repo.partition("@")
    try:
        file = hf_hub_download(name, WEIGHTS_NAME, revision=revision or None, cache_dir=cache_dir)
    except RuntimeError as error:  # hf_xet's, for broken connections and full disks alike
        full = "no space left" in str(error).lower()
        raise OSError(errno.ENOSPC if full else errno.ECONNABORTED, str(error)) from error
    path = Path(file)
    expected = _expected_hash(name, revision, path)
    if expected is not None and (found := sha256_of(path)) != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsNotFoundError(
            f"{WEIGHTS_NAME} of {repo} is damaged: its SHA-256 is {found}, not {expected}. It was "
            "removed from the cache; run again. If that does not help, something between here and "
            "the Hub changes files, or the repository was altered."
        )
    return path


def _expected_hash(repo: str, revision: str, path: Path) -> Optional[str]:
    known = published(repo)
    if known is not None and known.commit == revision:
        return known.sha256[WEIGHTS_NAME]
    blob = path.resolve().name  # the Hub's ETag: SHA-256 of files in large file storage
    return blob if len(blob) == 64 else None


def check_finite(model: torch.nn.Module, source: str) -> None:
    """Refuse weights that are not numbers, which would explain nothing and say so nowhere.

    Raises:
        WeightsNotFoundError: With the first such tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsNotFoundError(
                f"The weights from {source} are broken: {name} holds NaN or infinite values. Ask "
                "their publisher for others."
            )


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
                f"{file} has no {WEIGHTS_NAME}; se_zoo loads safetensors only, no pickle. Save the "
                "model with se_zoo.save(model, folder)."
            )
    elif source != "hf-hub" and cfg.get("state_dict"):
        return {}
    elif source != "hf-hub" and file:
        path = Path(file)
        if path.suffix != ".safetensors":
            raise WeightsNotFoundError(
                f"{file} is not a .safetensors file; se_zoo loads no pickle."
            )
        expected = packaged_sha256(path)
        if expected is not None and (found := sha256_of(path)) != expected:
            raise WeightsNotFoundError(
                f"{path} is damaged: its SHA-256 is {found}, and the package's manifest has "
                f"{expected}. Install se_zoo again with pip."
            )
    elif cfg.get("hf_hub_id"):
        path = fetch(hub_repo(cfg), cache_dir)
    else:
        url = cfg.get("url")
        raise WeightsNotFoundError(
            f"There are no weights for {cfg.get('architecture')} as safetensors"
            + (f", only a pickle at {url}, which se_zoo does not load." if url else ".")
            + " Use pretrained=False for random weights."
        )
    # A ViT's own loader reads JAX's .npz alone; timm 1.0.21 would give it any file.
    return {"file": str(path), "source": "local-file", "custom_load": False}


#: What config.json may not say of a model: how, and from where, it is loaded.
_LOADING = {
    *inspect.signature(timm.create_model).parameters,
    *inspect.signature(build_model_with_cfg).parameters,
}


def check_model_args(args: Any, place: str) -> Dict[str, Any]:
    """Model arguments of a config.json: those of the architecture, and nothing about loading.

    Raises:
        UnknownModelError: If there is anything else, such as ``checkpoint_path``.
    """
    if not isinstance(args, dict):
        raise UnknownModelError(f"model_args of {place} is no set of arguments: {args!r}.")
    strange = sorted(set(args) & _LOADING)
    if strange:
        raise UnknownModelError(
            f"model_args of {place} say how to load a model ({', '.join(strange)}), which is not "
            "theirs to say; do not use it."
        )
    return args


def described_model(name: str, cache_dir: Any = None) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """Architecture, pretrained cfg and model arguments of ``hf-hub:<repo>`` or
    ``local-dir:<folder>``, from its config.json; no weights are touched.

    Of a repository, the cfg names the commit that was read, so that the weights are of the same.

    Raises:
        UnknownModelError: If there is no such place, its config.json cannot be read, or says how
            to load the model.
    """
    scheme, _, place = name.partition(":")
    try:
        if scheme == "hf-hub":
            repo, _, revision = place.partition("@")
            file = hf_hub_download(
                repo, "config.json", revision=revision or None, cache_dir=cache_dir
            )
            place = f"{repo}@{Path(file).parent.name}"
            cfg, architecture, args = load_model_config_from_hf(place, cache_dir=cache_dir)
        elif scheme == "local-dir":
            cfg, architecture, args = load_model_config_from_path(place)
        else:
            raise ValueError("a place is hf-hub:<repository> or local-dir:<folder>")
        if not isinstance(cfg, dict) or not isinstance(architecture, str):
            raise TypeError("its config.json is none of timm's")
    except UNREADABLE as error:
        raise UnknownModelError(
            f"{name} describes no model that timm can create. {type(error).__name__}: {error}"
        ) from error
    return architecture, cfg, check_model_args(args or {}, name)


def restore_source(model: Any, cfg: Dict[str, Any]) -> None:
    """Make a model's config name where its weights came from, not this machine's copy of them."""
    changed = ("file", "source", "custom_load", "state_dict")
    kept = {k: v for k, v in model.pretrained_cfg.items() if k not in changed}
    kept.update({k: cfg[k] for k in changed if k in cfg})
    if kept.get("hf_hub_id"):
        kept["hf_hub_id"] = hub_repo(cfg)
    model.pretrained_cfg = model.default_cfg = kept
