"""Make the folder that is published: weights, config, card, figures, pictures, and a manifest."""

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping

from ..errors import InvalidInputError
from ..files import replace_folder, write_json
from ..models.names import PREFIX
from ..models.pretrained.fetch import WEIGHTS_NAME
from ..models.pretrained.manifest import sha256_of
from ..models.save_model import complete_config
from ..provenance import options, provenance
from ..version import __version__
from .card import CURVES, GALLERY, Subject, base_model, render
from .gallery import draw_gallery
from .publish_errors import naming_the_step
from .read_run import Run
from .secrets import refuse_secrets, without_paths
from .size import size_facts
from .sources import PROVENANCE, read_source, read_sources
from .zoo_cards import NOTICE

#: File of the repository with the hash of every other file that se-zoo wrote.
MANIFEST = "manifest.json"
_UPLOAD = "upload"
#: Allowed difference of a figure that was computed on two machines.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be published.

    Attributes:
        folder: The folder.
        run: The run that it was made from.
        sha256: SHA-256 of each file, the manifest included.
        packaged: Whether the folder lies in the package; its files are then published unchanged.
    """

    folder: Path
    run: Run
    sha256: Dict[str, str]
    packaged: bool = False

    def write_manifest(self) -> None:
        """Hash all files again, and write the manifest."""
        files = sorted(f for f in self.folder.iterdir() if f.name != MANIFEST)
        hashes = {file.name: sha256_of(file) for file in files}
        write_json(self.folder / MANIFEST, {"se_zoo": __version__, "files": hashes})
        self.sha256.clear()
        self.sha256.update({**hashes, MANIFEST: sha256_of(self.folder / MANIFEST)})

    def reuse(self, earlier: Path) -> bool:
        """Replace a new file of figures by an earlier one that says the same.

        They may differ in machine, commit and rounding: counting again on another machine is no
        change of the model.

        Args:
            earlier: The earlier file.

        Returns:
            Whether it was replaced; then the manifest must be written again.
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
    """Make the folder in a temporary place, and remove it at the end of the block.

    Args:
        run: The run to be published.

    Yields:
        The folder.

    Raises:
        PublishError: If the card cannot be rendered, the files seem to hold secrets, or the disk is
            full.
    """
    with tempfile.TemporaryDirectory(prefix="se-zoo-") as name:
        folder = Path(name)
        with naming_the_step("before anything was asked of the Hub", run.repo):
            _write(run, folder)
            refuse_secrets(folder)
            staged = Staged(folder, run, {})
            staged.write_manifest()
        yield staged


def write_upload(run: Run) -> Path:
    """Write the folder that would be published to ``RUN/upload``, whole or not at all.

    Args:
        run: The run.

    Returns:
        The folder.

    Raises:
        InvalidInputError: If it cannot be written.
        PublishError: If the card cannot be rendered.
    """
    final = run.folder / _UPLOAD
    with stage(run) as staged:
        try:
            with replace_folder(final) as made:
                for file in staged.folder.iterdir():
                    shutil.copyfile(file, made / file.name)
        except OSError as error:
            raise InvalidInputError(f"{final} cannot be written: {error}") from error
    return final


def _write(run: Run, folder: Path) -> None:
    """Write all files but the manifest."""
    for file in (run.export / WEIGHTS_NAME, run.export / NOTICE, run.folder / CURVES):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    config = complete_config(run.config)
    config["pretrained_cfg"] = {
        **run.config.get("pretrained_cfg", {}),
        "license": run.facts.license.id,
    }
    write_json(folder / "config.json", config)
    sources = {name: without_paths(figures) for name, figures in _figures(run).items()}
    for name, figures in sources.items():
        write_json(folder / f"{name}.json", figures)
    if run.facts.gallery is not None:
        draw_gallery(run.model, run.facts.gallery, folder, run.card)
        numbers = (folder / GALLERY).with_suffix(".json")
        sources[numbers.stem] = read_source(numbers)
    card = str(render(_subject(run, folder, sources)))
    (folder / "README.md").write_text(card, encoding="utf-8")


def _figures(run: Run) -> Dict[str, Dict[str, Any]]:
    """Return a run's files of figures by name: those beside the facts, the summary, the size."""
    sources = read_sources(run.card)
    _check_sources(run, sources)
    if run.summary is not None:
        sources["training"] = run.summary
    # The command is the same for every caller, so that publishing again changes nothing.
    command = "se_zoo.hub.size.size_facts(model)"
    sources["size"] = {**provenance(command), **size_facts(run.model)}
    return sources


def _subject(run: Run, folder: Path, sources: Mapping[str, Dict[str, Any]]) -> Subject:
    """Return what the card of a run is rendered from."""
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
        pictures=[name for name in (GALLERY, CURVES) if (folder / name).is_file()],
        weights_size=(folder / WEIGHTS_NAME).stat().st_size,
    )


def _check_sources(run: Run, sources: Dict[str, Dict[str, Any]]) -> None:
    """Refuse figures of other weights, and a control that differs in more than the block."""
    if taken := sorted({"config", "manifest"} & set(sources)):
        raise InvalidInputError(
            f"{run.card / taken[0]}.json: the repository has a file of that name; rename it."
        )
    own = sha256_of(run.export / WEIGHTS_NAME)
    for name, figures in sources.items():
        measured = figures.get("weights_sha256")
        if measured not in (None, own) and name != "control":  # which has weights of its own
            raise InvalidInputError(
                f"{run.card / name}.json was measured on other weights; measure again, or move it "
                "away."
            )
    if "test" in sources and "weights_sha256" not in sources["test"]:
        file = f"{run.card}/test.json"
        if run.own is None:  # only a checkout has the command
            advice = "state weights_sha256 in test.json"
        else:
            advice = (
                f"`python -m tools.score_celeba {run.own} --folder {run.export} --out {file}` "
                "writes it anew"
            )
        raise InvalidInputError(
            f"{file} does not name the weights that it was measured on: {advice}, or rename it if "
            "it holds other figures."
        )
    if "control" in sources and run.summary is not None:
        fault = control_fault(run.summary, sources["control"])
        if fault:
            raise InvalidInputError(
                f"{run.card}/control.json is no control of this run: {fault}. Move it away, or "
                "train the control again: the run's command with --model.no-se."
            )


def control_fault(with_se: Dict[str, Any], without: Dict[str, Any]) -> str:
    """Return why a summary is not that of a run's control; "" if it is.

    A control is the same run without the block. Its options may differ in the block and in the
    output folder.

    Args:
        with_se: The summary of the run.
        without: The summary of the control.
    """
    ours, theirs = (options(without_paths(run.get("config", {}))) for run in (with_se, without))
    if theirs.get("model.se") is not False:
        return "it was trained with the block"
    names = {n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)}
    other = sorted(n for n in names if n.rpartition(".")[2] not in ("se", "output", "overwrite"))
    # Runs of earlier versions have no fingerprint of their data.
    for key in ("labels", "samples", "data"):
        if key in with_se and key in without and with_se[key] != without[key]:
            other.append(key)
    return f"besides the block, {', '.join(other)} differ" if other else ""


def load_name(run: Run) -> str:
    """Return the name that ``timm.create_model`` takes for the published model."""
    return f"hf-hub:{run.repo}" if run.own is None else f"{PREFIX}{run.own}"


def alike(old: Any, new: Any) -> bool:
    """Return whether two files of figures are equal up to rounding.

    Args:
        old: The content of a JSON file.
        new: The content of another.
    """
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= _ROUNDING
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(alike(old[k], new[k]) for k in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(alike, old, new))
    return bool(old == new)
