"""The folder that goes to the Hub: weights, config, card, figures, pictures, and a manifest."""

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List

from ..errors import InvalidInputError
from ..models.export import complete_config
from ..models.manifest import manifest, sha256_of
from ..models.own_models import own_models
from ..models.pull import WEIGHTS_NAME
from ..provenance import options, provenance
from ..version import __version__
from .card import CURVES, GALLERY, Subject, base_model, render
from .gallery import draw_gallery
from .publish_errors import naming_the_step
from .run import Run, declared_repo
from .size import size_facts
from .sources import PROVENANCE, read_sources

#: In the repository: the hash of every file that this package put there.
MANIFEST = "manifest.json"
UPLOAD = "upload"
#: What preprocesses an image.
_PREPROCESSING = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")


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

    def write_manifest(self) -> None:
        """Hash all files anew, and write the manifest of them."""
        files = sorted(f for f in self.folder.iterdir() if f.name != MANIFEST)
        hashes = {file.name: sha256_of(file) for file in files}
        write_json(self.folder / MANIFEST, {"se_zoo": __version__, "files": hashes})
        self.sha256.clear()
        self.sha256.update({**hashes, MANIFEST: sha256_of(self.folder / MANIFEST)})

    def keep(self, earlier: Path) -> bool:
        """Take an earlier file of figures in the place of its newer one, if they differ in nothing
        but machine and commit: counting again on another machine is no change of the model.

        Returns:
            Whether it was taken; the manifest has to be written again then.
        """
        ours = self.folder / earlier.name
        try:
            old, new = (json.loads(f.read_text("utf-8")) for f in (earlier, ours))
            same = {**old, **{k: new[k] for k in PROVENANCE}} == new and old != new
        except (ValueError, TypeError, KeyError):
            return False
        if same:
            shutil.copyfile(earlier, ours)
        return same


def check_declared(run: Run) -> None:
    """In the zoo's own repository the model has to be the one that the registry declares there:
    ``timm.create_model("se_zoo/...")`` takes its preprocessing from the registry.

    Raises:
        InvalidInputError: Naming what differs.
    """
    owner = next((own for own in own_models() if declared_repo(own) == run.repo), None)
    if owner is None:
        return
    if owner != run.own:
        raise InvalidInputError(
            f"{run.repo} is the repository of {own_models()[owner].registry_name}; this model is "
            f"{run.config.get('architecture')}, trained with "
            f"{run.config.get('pretrained_cfg', {}).get('tag') or 'no tag of the zoo'}. Name "
            "another --repo."
        )
    if sha256_of(run.export / WEIGHTS_NAME) != manifest()[owner].sha256[WEIGHTS_NAME]:
        raise InvalidInputError(
            f"{run.repo} is for the weights that lie in the package, and these are others. Name "
            "another --repo."
        )


def preprocessing(model: Any) -> Dict[str, Any]:
    """What decides how an image becomes the model's input, as JSON's own types."""
    cfg = {**model.pretrained_cfg}
    cfg["crop_mode"] = cfg.get("crop_mode") or "center"
    return json.loads(json.dumps({k: cfg.get(k) for k in _PREPROCESSING}))


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
            staged = Staged(folder, run, {})
            staged.write_manifest()
        yield staged


def write_upload(run: Run) -> Path:
    """Write ``RUN/upload``, the folder that would go up; whole or not at all.

    Returns:
        The folder.
    """
    final, temporary = run.folder / UPLOAD, run.folder / f"{UPLOAD}.tmp"
    with stage(run) as staged:
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            for file in staged.folder.iterdir():
                shutil.copyfile(file, temporary / file.name)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InvalidInputError(f"{final} cannot be written: {error}") from error
    return final


def run_subject(run: Run) -> Subject:
    """What a run's card is made from, as far as it is known before it is staged."""
    sources = read_sources(run.card)
    check_sources(run, sources)
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
        base_model=run.facts.base_model or base_model(run.summary),
        backbone=(run.config.get("model_args") or {}).get("backbone"),
        pictures=_pictures(run),
        weights_size=(run.export / WEIGHTS_NAME).stat().st_size,
    )


def check_sources(run: Run, sources: Dict[str, Dict[str, Any]]) -> None:
    """Figures beside the facts are of this model: of its weights where they say of which, and the
    control differs in the block alone.

    Raises:
        InvalidInputError: Naming the file that is not.
    """
    if taken := sorted({"config", "manifest"} & set(sources)):
        raise InvalidInputError(
            f"{run.card / taken[0]}.json: the repository has a file of that name; rename it."
        )
    for name, figures in sources.items():
        measured = figures.get("weights_sha256")
        if measured is not None and measured != sha256_of(run.export / WEIGHTS_NAME):
            raise InvalidInputError(
                f"{run.card / name}.json was measured on other weights; measure again, or move it "
                "away."
            )
    if "control" in sources and run.summary is not None:
        other = control_differences(run.summary, sources["control"])
        if other:
            raise InvalidInputError(
                f"{run.card}/control.json is no control of this run: besides the block, "
                f"{', '.join(other)} differ."
            )


def control_differences(with_se: Dict[str, Any], without: Dict[str, Any]) -> List[str]:
    """Options in which two runs differ, beside the block and where they were written."""
    ours, theirs = (options(run.get("config", {})) for run in (with_se, without))
    names = {n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)}
    return sorted(n for n in names if n.rpartition(".")[2] not in ("se", "output", "overwrite"))


def load_name(run: Run) -> str:
    """What ``timm.create_model`` takes once it is published."""
    ours = run.own is not None and declared_repo(run.own) == run.repo
    return f"se_zoo/{run.own}" if ours else f"hf-hub:{run.repo}"


def _pictures(run: Run) -> Any:
    drawn = [GALLERY] if run.facts.gallery else []
    return drawn + ([CURVES] if (run.folder / CURVES).is_file() else [])


def _size(run: Run) -> Dict[str, Any]:
    # The command is the same for every caller, so that publishing again changes nothing.
    return {**provenance("se_zoo.hub.size.size_facts(model)"), **size_facts(run.model)}


def _write(run: Run, folder: Path) -> None:
    """All files but the manifest."""
    shutil.copyfile(run.export / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    config = complete_config(run.config)
    config["pretrained_cfg"] = {
        **run.config.get("pretrained_cfg", {}),
        "license": run.facts.license.id,
    }
    write_json(folder / "config.json", config)
    if run.facts.gallery is not None:
        draw_gallery(run.model, run.facts.gallery, folder, run.card)
    if (run.folder / CURVES).is_file():
        shutil.copyfile(run.folder / CURVES, folder / CURVES)
    subject = run_subject(run)
    for name, figures in subject.sources.items():
        if not (folder / f"{name}.json").exists():  # the gallery's is newer than the card folder's
            write_json(folder / f"{name}.json", without_paths(figures))
    subject = replace(subject, sources=_sources(folder))
    (folder / "README.md").write_text(str(render(subject)), encoding="utf-8")


def _sources(folder: Path) -> Dict[str, Dict[str, Any]]:
    return {k: json.loads((folder / f"{k}.json").read_text("utf-8"))
            for k in (f.stem for f in sorted(folder.glob("*.json"))) if k != "config"}  # fmt: skip


def write_json(file: Path, content: Any) -> None:
    """Write JSON."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def without_paths(content: Any) -> Any:
    """Figures with absolute paths cut to their last part: the rest names users, projects, disks."""
    if isinstance(content, str):
        return re.sub(r"(?<![\w.:~/-])/(?:[^\s/'\"=]+/)+", ".../", content)
    if isinstance(content, dict):
        return {key: without_paths(value) for key, value in content.items()}
    return [without_paths(v) for v in content] if isinstance(content, list) else content
