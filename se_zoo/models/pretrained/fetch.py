"""Fetch weights: safetensors only, of a known commit where the zoo records one."""

import errno
import inspect
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from timm.models import build_model_with_cfg

from ...errors import SEZooError, UnknownModelError, WeightsNotFoundError
from .._timm import load_model_config_from_hf, load_model_config_from_path
from .config_check import check_arguments_size, checked, not_fetched, read_config
from .hub_errors import CONNECTION_ERROR, unreachable
from .manifest import packaged_sha256, published, sha256_of

#: The zoo's organisation on the Hugging Face Hub.
HUB_ORG = "se-zoo"
WEIGHTS_NAME = "model.safetensors"
#: Errors of reading a broken config.json, or of creating the model that it describes.
UNREADABLE = (HfHubHTTPError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


def declared_repo(name: str) -> str:
    """Return the Hub repository of one of the zoo's own models.

    Args:
        name: Name of the model, without ``se_zoo/``.

    Returns:
        Its name; ``SE_ZOO_HUB_ORG`` replaces the organisation.
    """
    return f"{os.environ.get('SE_ZOO_HUB_ORG') or HUB_ORG}/{name}"


def hub_repo(cfg: Dict[str, Any]) -> str:
    """Return the Hub repository of a config's weights.

    Args:
        cfg: Pretrained config.

    Returns:
        Its name; empty if there is none. The zoo's organisation is replaced by ``SE_ZOO_HUB_ORG``.
        The name ends in ``@<revision>`` if the config or the zoo's manifest has one.
    """
    repo: str = cfg.get("hf_hub_id") or ""
    if cfg.get("source") == "hf-hub" or not repo.startswith(f"{HUB_ORG}/"):
        return repo
    repo = declared_repo(repo.split("/", 1)[1])
    known = published(repo)
    return repo if "@" in repo or known is None else f"{repo}@{known.commit}"


def source_name(cfg: Dict[str, Any]) -> str:
    """Return the file, repository or address of a config's weights, for messages."""
    return str(cfg.get("file") or hub_repo(cfg) or cfg.get("url"))


def fetch(repo: str, cache_dir: Any = None) -> Path:
    """Return the safetensors file of a repository; download it unless the cache has it.

    The Hub's client compares sizes only. So the file's SHA-256 is checked whenever it is known:
    from the zoo's manifest, or from the cache, which names large files by it (not on systems
    without symbolic links).

    Args:
        repo: Repository, with or without ``@revision``.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        The file.

    Raises:
        WeightsNotFoundError: If the file is not the one that was published; it is then removed.
        HfHubHTTPError: From the Hub's client.
        OSError: From the Hub's client.
    """
    name, _, revision = repo.partition("@")
    try:
        file = hf_hub_download(name, WEIGHTS_NAME, revision=revision or None, cache_dir=cache_dir)
    except RuntimeError as error:  # hf_xet raises it for broken connections and full disks
        full = "no space left" in str(error).lower()
        raise OSError(errno.ENOSPC if full else errno.ECONNABORTED, str(error)) from error
    path = Path(file)
    expected = _expected_hash(name, revision, path)
    if expected is not None and (found := sha256_of(path)) != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsNotFoundError(
            f"{WEIGHTS_NAME} of {repo} is damaged: its SHA-256 is {found}, not {expected}. It was "
            "removed from the cache; run again. If that does not help, a proxy changes files, or "
            "the repository was altered."
        )
    return path


def _expected_hash(repo: str, revision: str, path: Path) -> Optional[str]:
    """Return the SHA-256 that a downloaded file must have, or None if it is unknown."""
    known = published(repo)
    if known is not None and known.commit == revision:
        return known.sha256[WEIGHTS_NAME]
    blob = path.resolve().name  # the Hub's ETag: for files in large file storage, the SHA-256
    return blob if len(blob) == 64 else None


def config_file(cfg: Mapping[str, Any], cache_dir: Any = None) -> Path:
    """Return the config.json that a pretrained config was read from; it is on this machine.

    Args:
        cfg: Config of a folder or repository.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.
    """
    if cfg["source"] == "local-dir":
        return Path(str(cfg["file"])) / "config.json"
    name, _, revision = str(cfg["hf_hub_id"]).partition("@")
    found = hf_hub_download(
        name, "config.json", revision=revision or None, cache_dir=cache_dir, local_files_only=True
    )
    return Path(found)


def check_finite(model: torch.nn.Module, source: str) -> None:
    """Refuse weights with NaN or infinite values.

    Args:
        model: Model whose weights were loaded.
        source: Where they came from, for the message.

    Raises:
        WeightsNotFoundError: If there is such a value; the message names the first tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsNotFoundError(
                f"The weights from {source} are broken: {name} holds NaN or infinite values. Use "
                "other weights."
            )


def local_source(cfg: Dict[str, Any], cache_dir: Any = None) -> Dict[str, Any]:
    """Fetch a config's weights, and return how timm loads them from this machine.

    timm is given a local file and never the repository: without safetensors it would fall back to a
    pickle, and timm 1.0.21 unpickles any file that it is told to download by name.

    Args:
        cfg: The pretrained config, as timm resolves it.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        Changes to the config, by which timm loads one local safetensors file.

    Raises:
        WeightsNotFoundError: If there are no weights, or none as safetensors.
        HfHubHTTPError: From the Hub's client.
        OSError: From the Hub's client.
    """
    source, file = cfg.get("source"), cfg.get("file")
    if source == "local-dir":
        path = Path(str(file)) / WEIGHTS_NAME
        if not path.is_file():
            raise WeightsNotFoundError(
                f"{file} has no {WEIGHTS_NAME}; se_zoo loads safetensors only. Save the model with "
                "se_zoo.save(model, folder)."
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
                f"{path} is damaged: its SHA-256 is {found}, not {expected} as in the package's "
                "manifest. Install se_zoo again with pip."
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
    # custom_load: a ViT's own loader reads only JAX's .npz, and timm 1.0.21 gives it any file.
    return {"file": str(path), "source": "local-file", "custom_load": False, "state_dict": None}


#: Arguments about loading, which a config.json must not set.
_LOADING = {
    *inspect.signature(timm.create_model).parameters,
    *inspect.signature(build_model_with_cfg).parameters,
}


def _check_model_args(args: Any, place: str) -> Dict[str, Any]:
    """Check that the model arguments of a config.json set nothing about loading, and are small.

    Args:
        args: Content of ``model_args``.
        place: Where it was read, for messages.

    Returns:
        The arguments.

    Raises:
        UnknownModelError: If an argument concerns loading, such as ``checkpoint_path``, or asks
            for an endless model.
    """
    if not isinstance(args, dict):
        raise UnknownModelError(f"model_args of {place} must be a JSON object, not {args!r}.")
    strange = sorted(set(args) & _LOADING)
    if strange:
        raise UnknownModelError(
            f"model_args of {place} must not set loading options ({', '.join(strange)}); the model "
            "is refused."
        )
    # Those of SE models were checked when they were read; squeeze takes plain architectures, too.
    check_arguments_size(args, f"The config.json of {place}")
    return args


def described_model(name: str, cache_dir: Any = None) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """Read what a repository's or folder's config.json describes, without its weights.

    Args:
        name: ``hf-hub:<repository>`` or ``local-dir:<folder>``.
        cache_dir: Where downloads are kept; huggingface_hub's own folder by default.

    Returns:
        Architecture, pretrained config and model arguments. Of a repository, the config names the
        commit that was read, so that the weights are of the same commit.

    Raises:
        UnknownModelError: If there is no such repository or folder, or its config.json cannot be
            read or sets loading options.
        WeightsNotFoundError: If the Hub cannot be reached.
    """
    scheme, _, place = name.partition(":")
    try:
        if scheme == "hf-hub":
            repo, _, revision = place.partition("@")
            file = hf_hub_download(
                repo, "config.json", revision=revision or None, cache_dir=cache_dir
            )
            read_config(Path(file))  # timm would read a file of any size
            place = f"{repo}@{Path(file).parent.name}"
            read = checked(load_model_config_from_hf, read_first=False)
            cfg, architecture, args = read(place, cache_dir=cache_dir)
        elif scheme == "local-dir":
            read = checked(load_model_config_from_path, read_first=True)
            cfg, architecture, args = read(place)
        else:
            raise ValueError("give hf-hub:<repository> or local-dir:<folder>")
    except (*UNREADABLE, CONNECTION_ERROR) as error:
        if hint := unreachable(error):
            raise not_fetched(name, hint) from error
        why = f"{error}" if isinstance(error, SEZooError) else f"{type(error).__name__}: {error}"
        raise UnknownModelError(f"{name} describes no model that timm can create. {why}") from error
    return architecture, cfg, _check_model_args(args or {}, name)


def restore_source(model: Any, cfg: Dict[str, Any]) -> None:
    """Make a model's config name the source of its weights, not this machine's copy of them."""
    changed = ("file", "source", "custom_load", "state_dict")
    kept = {k: v for k, v in model.pretrained_cfg.items() if k not in changed}
    kept.update({k: cfg[k] for k in changed if k in cfg})
    if kept.get("hf_hub_id"):
        kept["hf_hub_id"] = hub_repo(cfg)
    model.pretrained_cfg = model.default_cfg = kept
