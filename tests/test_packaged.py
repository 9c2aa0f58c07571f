"""The packaged models: their folders are what `tools/package_zoo.py` makes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
import timm
import torch

import se_zoo
from se_zoo.hub.card import GALLERY
from se_zoo.hub.packaged import packaged_run
from se_zoo.hub.publish import GENERATED
from se_zoo.hub.stage import alike, stage
from se_zoo.hub.zoo_cards import notice_text
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, manifest, sha256_of

from .package_copy import CELEBA, MODELS, copy_package, files_of, hub_of, read_manifest
from .preloaded import ROOT, run_python

NAMES = sorted(manifest())
WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_manifest_records_every_file_of_the_folder(name: str) -> None:
    """The zoo's manifest, and the one in the folder, which does not name itself."""
    files = {file.name: sha256_of(file) for file in hub_folder(name).iterdir()}
    assert dict(manifest()[name].sha256) == files
    own = json.loads((hub_folder(name) / "manifest.json").read_text())["files"]
    assert own == {k: v for k, v in files.items() if k != "manifest.json"}
    assert {"README.md", "config.json", WEIGHTS, "size.json"} <= set(files)


@pytest.mark.parametrize("name", NAMES)
def test_verify_takes_every_packaged_model(name: str) -> None:
    found = se_zoo.hub.verify(f"se_zoo/{name}")
    assert "as published (hub_cards/manifest.json)" in found and "BAD" not in found


@pytest.mark.parametrize("name", NAMES)
def test_staging_again_gives_the_packaged_folder(name: str) -> None:
    """From what lies beside it; pictures are drawn by other versions, counts by other machines.

    `python -m tools.package_zoo NAME` writes it anew.
    """
    hub, beside = hub_folder(name), cards_folder() / name
    with stage(packaged_run(name, hub, beside)) as staged:
        for file in GENERATED:
            if (hub / file).is_file():
                new = json.loads((staged.folder / file).read_text())
                old = json.loads((hub / file).read_text())
                for figures in (old, new):
                    for origin in ("commit", "environment"):
                        figures.pop(origin)
                assert alike(old, new), file
        made, packaged = files_of(staged.folder), files_of(hub)
    assert set(made) == set(packaged)
    for file in set(made) - {*GENERATED, GALLERY, "manifest.json"}:
        assert made[file] == packaged[file], file


@pytest.mark.parametrize("name", NAMES)
def test_figures_beside_are_those_of_the_repository(name: str) -> None:
    for file in (cards_folder() / name).glob("*.json"):
        assert file.read_bytes() == (hub_folder(name) / file.name).read_bytes(), file


def test_notice_names_every_model_with_licence_and_origin() -> None:
    notice = (cards_folder() / "NOTICE").read_text("utf-8")
    assert notice == notice_text(), "python -m tools.write_cards writes it anew"
    assert re.findall(r"^hub_cards/(\w+)/hub/model\.safetensors$", notice, re.M) == NAMES
    assert notice.count("Licence: ") == notice.count("Trained on: ") == len(NAMES)


def test_license_expression_covers_every_model() -> None:
    """What the package index shows."""
    toml = (ROOT / "pyproject.toml").read_text("utf-8")
    stated = re.search(r'^license = "(.*)"$', toml, re.M)
    assert stated is not None
    for line in re.findall(r"Licence: (.*)", (cards_folder() / "NOTICE").read_text("utf-8")):
        name = line.partition(",")[0].lower()
        assert name.removesuffix("-non-commercial-research") in stated[1].lower(), name


# The tool, in a copy of the package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = copy_package(tmp_path / "package")
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run_tool(package: Path, *arguments: object) -> Any:
    return run_python("-m", "tools.package_zoo", *arguments, cwd=package)


def all_files(folder: Path) -> Dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def finished_run(package: Path, folder: Path, change: bool = True) -> Path:
    """A run as a recipe leaves it, of the packaged model with other weights."""
    from safetensors.torch import load_file, save_file

    hub = hub_of(package, CELEBA)
    (folder / "export").mkdir(parents=True)
    shutil.copyfile(hub / "config.json", folder / "export" / "config.json")
    weights = load_file(hub / WEIGHTS)
    weights["fc.bias"] += change
    save_file(weights, folder / "export" / WEIGHTS, metadata={"format": "pt"})
    summary = json.loads((package / "hub_cards" / CELEBA / "training.json").read_text())
    summary["config"]["seed"] = 7
    summary["command"] = ["recipes/celeba.py", "--run.output", str(folder)]
    summary["weights_sha256"] = sha256_of(folder / "export" / WEIGHTS)
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "curves.png").write_bytes(b"drawn")
    return folder


def test_packaging_again_changes_nothing(package: Path) -> None:
    entries = read_manifest(package / "hub_cards")
    entries[CELEBA].update(repo=f"se-zoo/{CELEBA}", commit="0" * 40, tag="v1")
    (package / "hub_cards" / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n")
    before = all_files(package / "hub_cards")
    done = run_tool(package, CELEBA)
    assert done.returncode == 0 and "as it was" in done.stdout, done.stderr
    assert all_files(package / "hub_cards") == before


def test_gallery_option_draws_the_picture_again(package: Path) -> None:
    picture = hub_of(package, CELEBA) / GALLERY
    picture.write_bytes(b"an earlier picture")
    done = run_tool(package, CELEBA)
    assert done.returncode == 0 and picture.read_bytes() == b"an earlier picture", done.stderr
    done = run_tool(package, CELEBA, "--gallery")
    assert done.returncode == 0 and picture.read_bytes().startswith(b"\x89PNG"), done.stderr
    entry = read_manifest(package / "hub_cards")[CELEBA]
    assert entry["sha256"][GALLERY] == sha256_of(picture)


def test_run_takes_the_place_of_the_packaged_model(package: Path, tmp_path: Path) -> None:
    """With its figures; those of other weights go, and so does the commit of the old ones."""
    entries = read_manifest(package / "hub_cards")
    entries[CELEBA].update(repo=f"se-zoo/{CELEBA}", commit="0" * 40, tag="v1")
    (package / "hub_cards" / "manifest.json").write_text(json.dumps(entries))
    facts = package / "hub_cards" / CELEBA / "facts.yaml"
    facts.write_text("""\
like: ../celeba.yaml
summary: "Trained with seed {{ training.config.seed }}."
""")
    stale = {"command": "c", "commit": "1", "environment": {}, "weights_sha256": "0" * 64}
    (facts.parent / "maps.json").write_text(json.dumps(stale))
    del stale["weights_sha256"]  # of the packaged weights, then
    (facts.parent / "mouth.json").write_text(json.dumps(stale))
    control = json.loads((facts.parent / "training.json").read_text())
    control["config"]["model"]["se"] = False
    (facts.parent / "control.json").write_text(json.dumps(control))
    run = finished_run(package, tmp_path / "run")
    done = run_tool(package, CELEBA, run)
    assert done.returncode == 0, done.stderr
    for name in ("maps", "mouth"):
        assert f"removed {CELEBA}/{name}.json: it was measured on other weights" in done.stdout
    assert f"removed {CELEBA}/control.json: it is no control of this run: besides" in done.stdout
    assert "besides the block, seed differ" in done.stdout
    made = files_of(hub_of(package, CELEBA))
    assert made[WEIGHTS] == (run / "export" / WEIGHTS).read_bytes()
    assert made["curves.png"] == b"drawn" and "maps.json" not in made
    assert b"Trained with seed 7." in made["README.md"]
    assert str(tmp_path).encode() not in b"".join(made.values()), "a path of the machine"
    assert made["training.json"] == (facts.parent / "training.json").read_bytes()
    assert not list(facts.parent.parent.glob(".*")), "left behind"
    entry = read_manifest(package / "hub_cards")[CELEBA]
    files = hub_of(package, CELEBA).iterdir()
    assert entry == {"sha256": {file.name: sha256_of(file) for file in files}}


def test_new_model_that_no_recipe_trained(package: Path, tmp_path: Path) -> None:
    """With the notice of those who did; then the registry of that package has it."""
    model: Any = timm.create_model("resnet10t_sehead", num_classes=2)
    model.pretrained_cfg.update(tag="pets")
    saved = se_zoo.save(model, tmp_path / "saved", labels=["cat", "dog"], dtype=torch.float16)
    (saved / "NOTICE").write_text("Trained by somebody else.\n")
    facts = package / "hub_cards" / "resnet10t_pets" / "facts.yaml"
    facts.parent.mkdir()
    facts.write_text("""\
summary: Two pets.
license: {id: apache-2.0}
data: {name: pets, text: Two of them.}
intended_use: Tests.
limits: [It knows nothing.]
bias: Not measured.
""")
    done = run_tool(package, "resnet10t_pets", saved)
    assert done.returncode == 0, done.stderr
    assert {"NOTICE", "README.md"} <= set(read_manifest(package / "hub_cards")["resnet10t_pets"][
        "sha256"])  # fmt: skip
    notice = (package / "hub_cards" / "NOTICE").read_text()
    assert "hub_cards/resnet10t_pets/hub/model.safetensors" in notice
    assert "Licence: apache-2.0" in notice and "Trained by somebody else." in notice
    again = run_tool(package, "resnet10t_pets")
    assert again.returncode == 0 and "as it was" in again.stdout, again.stderr
    code = """
import timm, se_zoo
from se_zoo.hub.zoo_cards import models_table
print(timm.create_model("se_zoo/resnet10t_pets", pretrained=True).class_labels())
print(models_table())
"""
    found = run_python("-c", code, cwd=package)
    assert "('cat', 'dog')" in found.stdout, found.stderr
    (row,) = [line for line in found.stdout.splitlines() if "resnet10t_pets" in line]
    assert "| not measured |" in row


@pytest.mark.parametrize(
    "spoil, says",
    [
        ("facts", "cannot be rendered"),
        ("architecture", "is of resnet18_celeba (architecture and tag), not of"),
        ("unfinished", "has no summary.json"),
        ("summary", "has figures of other weights"),
        ("name", "facts.yaml is missing"),
    ],
)
def test_failure_leaves_everything_as_it_was(
    package: Path, tmp_path: Path, spoil: str, says: str
) -> None:
    run, name = finished_run(package, tmp_path / "run"), CELEBA
    config = run / "export" / "config.json"
    if spoil == "facts":
        facts = package / "hub_cards" / CELEBA / "facts.yaml"
        facts.write_text(facts.read_text() + "results: '{{ nothing.at.all }}'\n")
    elif spoil == "architecture":
        text = config.read_text()
        config.write_text(text.replace("resnet18_slim_sehead", "resnet18_sehead"))
    elif spoil == "unfinished":
        (run / "summary.json").unlink()
    elif spoil == "summary":
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "weights_sha256": "0" * 64}))
    else:
        name = "resnet18_celeba"
    before = all_files(package / "hub_cards")
    done = run_tool(package, name, run)
    assert done.returncode == 1 and says in " ".join(done.stderr.split()), done.stderr
    assert all_files(package / "hub_cards") == before


def test_copy_of_the_package_has_small_models() -> None:
    """The tests that publish the zoo publish these."""
    assert set(MODELS) <= set(NAMES)
    assert sum((hub_folder(name) / WEIGHTS).stat().st_size for name in MODELS) < 8e6
