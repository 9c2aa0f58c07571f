"""The folder that goes to the Hub: weights, config, card, figures, pictures, and a manifest."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import timm

from ..errors import InvalidInputError
from ..models.export import complete_config
from ..models.manifest import manifest, sha256_of
from ..models.names import ALIASES
from ..models.pull import BUNDLED, WEIGHTS_NAME
from ..provenance import provenance
from ..version import __version__
from .card import CURVES, GALLERY, Subject, render
from .gallery import draw_gallery
from .publish_errors import naming_the_step
from .run import Run, declared_repo
from .size import size_facts
from .sources import read_sources

#: In the repository: the hash of every file that this package put there.
MANIFEST = "manifest.json"
UPLOAD = "upload"
#: What preprocesses an image; a declared model must have been trained with its declaration's.
_PREPROCESSING = ("input_size", "mean", "std", "crop_pct", "interpolation", "num_classes")


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to go up.

    Attributes:
        folder: Where the files are.
        run: What they were made from.
        sha256: SHA-256 of each file, the manifest included.
    """

    folder: Path
    run: Run
    sha256: Dict[str, str]


def check_declared(run: Run) -> None:
    """In the zoo's own repository the model has to be the one that the registry declares there:
    ``timm.create_model("se_zoo/...")`` takes its preprocessing from the registry.

    Raises:
        InvalidInputError: Naming what differs.
    """
    owner = next((own for own in ALIASES if declared_repo(own) == run.repo), None)
    if owner is None:
        return
    if owner != run.own:
        raise InvalidInputError(
            f"{run.repo} is the repository of {ALIASES[owner]}; this model is "
            f"{run.config.get('architecture')}, trained with "
            f"{run.config.get('pretrained_cfg', {}).get('tag') or 'no tag of the zoo'}. Name "
            "another --repo."
        )
    declared: Any = timm.create_model(ALIASES[owner], device="meta")
    ours, theirs = dict(run.model.pretrained_cfg), dict(declared.pretrained_cfg)
    if f"se_zoo/{owner}" in BUNDLED and sha256_of(run.export / WEIGHTS_NAME) not in (
        manifest()[owner].sha256.values()
    ):
        raise InvalidInputError(
            f"{run.repo} is for the weights that lie in the package, and these are others."
        )
    pairs = {k: (as_list(ours.get(k)), as_list(theirs.get(k))) for k in _PREPROCESSING}
    differ = {k: pair for k, pair in pairs.items() if pair[0] != pair[1]}
    if run.model.se_args != declared.se_args:
        differ["gate"] = (run.model.se_args, declared.se_args)
    if differ:
        text = "; ".join(f"{k} is {a}, declared as {b}" for k, (a, b) in differ.items())
        raise InvalidInputError(
            f"{run.repo} is declared for another model than this run trained: {text}. Train it as "
            "declared, or name another --repo."
        )


def as_list(value: Any) -> Any:
    """A tuple as the list that it is in JSON."""
    return list(value) if isinstance(value, tuple) else value


@contextmanager
def stage(run: Run) -> Iterator[Staged]:
    """Make the folder in a temporary place, which is gone afterwards.

    Args:
        run: What is to be published.

    Raises:
        InvalidInputError: If the card cannot be rendered, or the run is not what the repository is
            declared for.
        PublishError: If the disk is full.
    """
    check_declared(run)
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as name:
        folder = Path(name)
        with naming_the_step("before anything was asked of the Hub", run.repo):
            _write(run, folder)
            hashes = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
            write_json(folder / MANIFEST, {"se_zoo": __version__, "files": hashes})
        yield Staged(folder, run, {**hashes, MANIFEST: sha256_of(folder / MANIFEST)})


def write_upload(run: Run) -> Path:
    """Write ``RUN/upload``, the folder that would go up; whole or not at all.

    Returns:
        The folder.
    """
    with stage(run) as staged:
        final, temporary = run.folder / UPLOAD, run.folder / f"{UPLOAD}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(staged.folder, temporary)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    return final


def run_subject(run: Run) -> Subject:
    """What a run's card is made from, as far as it is known before it is staged."""
    sources = read_sources(run.card)
    if run.summary is not None:
        sources["training"] = run.summary
    sources["size"] = _size(run)
    return Subject(
        name=run.repo,
        model=run.model,
        facts=run.facts,
        sources=sources,
        size=sources["size"],
        status="published",
        load_name=load_name(run),
        repo=run.repo,
        base_model=run.facts.base_model or _base_model(run),
        backbone=(run.config.get("model_args") or {}).get("backbone"),
        pictures=_pictures(run),
        weights_size=(run.export / WEIGHTS_NAME).stat().st_size,
    )


def load_name(run: Run) -> str:
    """What ``timm.create_model`` takes once it is published."""
    ours = run.own is not None and declared_repo(run.own) == run.repo
    return f"se_zoo/{run.own}" if ours else f"hf-hub:{run.repo}"


def _base_model(run: Run) -> Optional[str]:
    """The repository of timm's weights that a run started from, if it did."""
    chosen = (run.summary or {}).get("config", {}).get("model", {})
    if not isinstance(chosen, dict) or not chosen.get("pretrained"):
        return None
    cfg: Any = timm.get_pretrained_cfg(chosen.get("backbone") or chosen["name"])
    return getattr(cfg, "hf_hub_id", None)


def _pictures(run: Run) -> Any:
    drawn = [GALLERY] if run.facts.gallery else []
    return drawn + ([CURVES] if (run.folder / CURVES).is_file() else [])


def _size(run: Run) -> Dict[str, Any]:
    # The command is the same for every caller, so that publishing again changes nothing.
    return {**provenance("se_zoo.hub.size.size_facts(model)"), **size_facts(run.model)}


def _write(run: Run, folder: Path) -> None:
    """All files but the manifest."""
    shutil.copyfile(run.export / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    write_json(folder / "config.json", complete_config(run.config))
    if run.facts.gallery is not None:
        draw_gallery(run.model, run.facts.gallery, folder, run.card)
    if (run.folder / CURVES).is_file():
        shutil.copyfile(run.folder / CURVES, folder / CURVES)
    subject = run_subject(run)
    for name, figures in subject.sources.items():
        if not (folder / f"{name}.json").exists():  # the gallery's is newer than the card folder's
            write_json(folder / f"{name}.json", figures)
    subject = Subject(**{**vars(subject), "sources": _sources(folder)})
    (folder / "README.md").write_text(str(render(subject)), encoding="utf-8")


def _sources(folder: Path) -> Dict[str, Dict[str, Any]]:
    return {k: json.loads((folder / f"{k}.json").read_text("utf-8"))
            for k in (f.stem for f in sorted(folder.glob("*.json"))) if k != "config"}  # fmt: skip


def write_json(file: Path, content: Any) -> None:
    """JSON without the home directory of whoever publishes: paths of the run name the user."""
    text = json.dumps(content, indent=2).replace(json.dumps(str(Path.home()))[1:-1], "~")
    file.write_text(text + "\n", encoding="utf-8")
