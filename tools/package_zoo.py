"""Package a model of the zoo: write hub_cards/<name>/hub, the content of its Hub repository.

    python -m tools.package_zoo resnet50_celeba runs/zoo/resnet50_celeba   # a finished run
    python -m tools.package_zoo tf_efficientnet_lite0_in1k lite0   # a saved model, without a recipe
    python -m tools.package_zoo resnet50_celeba             # again, from the packaged files
    python -m tools.package_zoo resnet50_celeba --gallery   # the same, and draw the picture again

Write hub_cards/<name>/facts.yaml, with what people state, first. The tool takes export/,
summary.json (as training.json) and curves.png of a run. It writes the folder whole or not at all,
then the model's entry in hub_cards/manifest.json, and hub_cards/NOTICE. `python -m
tools.write_cards` writes the README's table. Figures that were measured on other weights than the
run's, and a control.json that is no control of the run, are removed: measure again, then package
again. An earlier gallery.png stays while its numbers are the same, unless --gallery is given.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

import tyro

from se_zoo.errors import InvalidInputError, SEZooError
from se_zoo.hub.card import GALLERY
from se_zoo.hub.packaged import packaged_run
from se_zoo.hub.publish import GENERATED
from se_zoo.hub.read_run import read_export
from se_zoo.hub.record import write_entry
from se_zoo.hub.sources import read_source, read_sources
from se_zoo.hub.stage import MANIFEST, Staged, control_fault, stage
from se_zoo.hub.zoo_cards import FACTS, NOTICE, notice_text
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import Published, cards_folder, read_manifest, sha256_of
from se_zoo.models.pretrained.own_models import own_models

TRAINING = "training.json"


@dataclass(frozen=True)
class Package:
    """The model to package, and its source."""

    name: tyro.conf.Positional[str]
    """Architecture and tag of the model, such as resnet50_celeba."""
    run: tyro.conf.Positional[Optional[Path]] = None
    """Folder of a finished run, or of a model that no recipe trained; by default the packaged
    files."""
    gallery: bool = False
    """Draw gallery.png again, even if its numbers are the same."""


def package(name: str, run: Optional[Path] = None, gallery: bool = False) -> List[str]:
    """Write a model's folder, its entry in the manifest, and the notice.

    Args:
        name: Name of the model, such as ``resnet50_celeba``.
        run: Folder of a finished run, or of a saved model; by default the packaged files.
        gallery: Draw the picture again, even if its numbers are the same.

    Returns:
        Lines that say what was done.

    Raises:
        SEZooError: If something that the folder needs is missing or wrong; then nothing is changed.
    """
    folder = cards_folder() / name
    if not (folder / FACTS).is_file():
        raise InvalidInputError(f"{folder / FACTS} is missing; write it first.")
    work = folder.with_name(f".{name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    try:
        shutil.copytree(folder, work, ignore=shutil.ignore_patterns("hub"))
        dropped = _drop_stale(work, run, folder / "hub") if run is not None else []
        with stage(packaged_run(name, run or folder / "hub", work)) as staged:
            _reuse_generated(staged, folder / "hub", gallery)
            shutil.copytree(staged.folder, work / "hub")
            for figures in {TRAINING, *(file.name for file in work.glob("*.json"))}:
                if (staged.folder / figures).is_file():  # without the paths of this machine
                    shutil.copyfile(staged.folder / figures, work / figures)
            sha256 = dict(staged.sha256)
        _replace(folder, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return [*dropped, _enter(name, sha256)]


def _drop_stale(card: Path, run: Path, packaged: Path) -> List[str]:
    """Remove the figures of other runs from a copy of a card's folder, and say which.

    Figures without a hash are of the packaged weights, if there are any.
    """
    weights, earlier = sha256_of(read_export(run)[0] / WEIGHTS_NAME), packaged / WEIGHTS_NAME
    unnamed = sha256_of(earlier) if earlier.is_file() else weights
    (card / TRAINING).unlink(missing_ok=True)
    lines = []
    for name, figures in read_sources(card).items():
        why = ""
        if name == "parity":  # trains models of its own
            continue
        if name != "control" and figures.get("weights_sha256", unnamed) != weights:
            why = "it was measured on other weights"
        elif name == "control":
            fault = control_fault(read_source(run / "summary.json"), figures)
            why = f"it is no control of this run: {fault}" if fault else ""
        if why:
            (card / f"{name}.json").unlink()
            lines.append(f"removed {card.name[1:-4]}/{name}.json: {why}")
    return lines


def _reuse_generated(staged: Staged, earlier: Path, redraw: bool) -> None:
    """Reuse the packaged size, picture and numbers that differ in machine and commit only."""
    numbers = Path(GALLERY).with_suffix(".json").name
    names = [name for name in GENERATED if not (redraw and name == numbers)]
    present = [earlier / name for name in names if name in staged.sha256]
    reused = [file.name for file in present if file.is_file() and staged.reuse(file)]
    if numbers in reused and (earlier / GALLERY).is_file():
        shutil.copyfile(earlier / GALLERY, staged.folder / GALLERY)
    if reused:
        staged.write_manifest()


def _replace(folder: Path, new: Path) -> None:
    """Replace a folder by another one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _enter(name: str, sha256: "dict[str, str]") -> str:
    """Write the notice and the manifest's entry, which keeps its commit if no file changed."""
    file = cards_folder() / MANIFEST
    known = read_manifest(file).get(name)
    same = known is not None and dict(known.sha256) == sha256
    if not same:
        write_entry(file, name, Published(sha256))
    own_models.cache_clear()
    (file.parent / NOTICE).write_text(notice_text(), encoding="utf-8")
    return f"{name}: {'as it was' if same else f'packaged, {len(sha256)} files'}"


def main() -> None:
    """Read the command line and package."""
    options = tyro.cli(Package, description=__doc__)
    try:
        print("\n".join(package(options.name, options.run, options.gallery)))
    except (SEZooError, OSError) as error:
        raise SystemExit(f"package_zoo: {error}") from error


if __name__ == "__main__":
    main()
