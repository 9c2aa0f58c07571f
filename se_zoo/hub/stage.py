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
from ..files import write_json
from ..models.names import PREFIX
from ..models.pretrained.fetch import WEIGHTS_NAME
from ..models.pretrained.manifest import sha256_of
from ..models.pretrained.save import complete_config
from ..provenance import options, provenance
from ..version import __version__
from .card import CURVES, GALLERY, Subject, base_model, render
from .gallery import draw_gallery
from .publish_errors import naming_the_step
from .run import Run
from .size import size_facts
from .sources import PROVENANCE, read_sources
from .zoo import NOTICE

#: In the repository: the hash of every file that this package put there.
MANIFEST = "manifest.json"
UPLOAD = "upload"
#: By how much the figures of one model differ between machines.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to go up.

    Attributes:
        folder: Where the files are.
        run: What they were made from.
        sha256: SHA-256 of each file, the manifest included.
        packaged: Whether the folder lies in the package; then its files go up as they are.
    """

    folder: Path
    run: Run
    sha256: Dict[str, str]
    packaged: bool = False

    def write_manifest(self) -> None:
        """Hash all files anew, and write the manifest of them."""
        files = sorted(f for f in self.folder.iterdir() if f.name != MANIFEST)
        hashes = {file.name: sha256_of(file) for file in files}
        write_json(self.folder / MANIFEST, {"se_zoo": __version__, "files": hashes})
        self.sha256.clear()
        self.sha256.update({**hashes, MANIFEST: sha256_of(self.folder / MANIFEST)})

    def keep(self, earlier: Path) -> bool:
        """Take an earlier file of figures in the place of its newer one, if they differ in nothing
        but machine, commit and rounding: counting again elsewhere is no change of the model.

        Returns:
            Whether it was taken; the manifest has to be written again then.
        """
        ours = self.folder / earlier.name
        try:
            old, new = (json.loads(f.read_text("utf-8")) for f in (earlier, ours))
            same = old != new and alike({**old, **{k: new[k] for k in PROVENANCE}}, new)
        except (ValueError, TypeError, KeyError):
            return False
        if same:
            shutil.copyfile(earlier, ours)
        return same


@contextmanager
def stage(run: Run) -> Iterator[Staged]:
    """Make the folder in a temporary place, which is gone afterwards.

    Args:
        run: What is to be published.

    Raises:
        InvalidInputError: If the card cannot be rendered.
        PublishError: If the disk is full.
    """
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
    ours, theirs = (options(without_paths(run.get("config", {}))) for run in (with_se, without))
    names = {n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)}
    return sorted(n for n in names if n.rpartition(".")[2] not in ("se", "output", "overwrite"))


def load_name(run: Run) -> str:
    """What ``timm.create_model`` takes once it is published."""
    return f"hf-hub:{run.repo}" if run.own is None else f"{PREFIX}{run.own}"


def _pictures(run: Run) -> Any:
    drawn = [GALLERY] if run.facts.gallery else []
    return drawn + ([CURVES] if (run.folder / CURVES).is_file() else [])


def _size(run: Run) -> Dict[str, Any]:
    # The command is the same for every caller, so that publishing again changes nothing.
    return {**provenance("se_zoo.hub.size.size_facts(model)"), **size_facts(run.model)}


def _write(run: Run, folder: Path) -> None:
    """All files but the manifest."""
    shutil.copyfile(run.export / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    if (run.export / NOTICE).is_file():  # of those whose weights these were
        shutil.copyfile(run.export / NOTICE, folder / NOTICE)
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


def alike(old: Any, new: Any) -> bool:
    """Return whether two files of figures hold the same, up to what machines compute differently.

    Args:
        old: What JSON holds.
        new: Likewise.
    """
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= _ROUNDING
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(alike(old[k], new[k]) for k in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(alike, old, new))
    return bool(old == new)


def without_paths(content: Any) -> Any:
    """Figures with absolute paths cut to their last part: the rest names users, projects, disks."""
    if isinstance(content, str):
        return re.sub(r"(?<![\w.:~/-])/(?:[^\s/'\"=]+/)+", ".../", content)
    if isinstance(content, dict):
        return {key: without_paths(value) for key, value in content.items()}
    return [without_paths(v) for v in content] if isinstance(content, list) else content
