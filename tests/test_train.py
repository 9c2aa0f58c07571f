"""The training engine: its order, its states, its options."""

import hashlib
import json
import re
import shlex
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image

accelerate = pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from safetensors.torch import load_file, save_file  # noqa: E402

from se_zoo import InvalidInputError, WeightsNotFoundError  # noqa: E402
from se_zoo.train import train  # noqa: E402
from se_zoo.train.resume import state  # noqa: E402
from se_zoo.train.resume.order import Batches, Plan, seed_all  # noqa: E402
from se_zoo.train.schedule import lr_at  # noqa: E402

from .train_run import (  # noqa: E402
    forget_accelerator,
    losses,
    make_config,
    make_state,
    undrawn,
    write_images,
)

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    counts = {"train": 37, "valid": 7, "test": 5}
    return write_images(
        tmp_path_factory.mktemp("images"), counts, lambda i: "common" if i % 5 else "rare", (32, 40)
    )


def run(folder: Path, output: Path, drawn: bool = False, **options: Any) -> Path:
    """Train for an epoch of four updates."""
    options["data"] = {"path": str(folder), "label": None, **options.get("data", {})}
    options["optim"] = {"epochs": 1, "warmup_epochs": 0, **options.get("optim", {})}
    options["run"] = {"output": str(output), **options.get("run", {})}
    with nullcontext() if drawn else undrawn():
        return train(make_config(options))


def weights(output: Path) -> Dict[str, torch.Tensor]:
    return load_file(output / "export" / "model.safetensors")


# Order


def plan(**options: Any) -> Plan:
    defaults = dict(samples=53, batch_size=4, processes=1, accumulate=3, epochs=2, seed=0)
    return Plan(**{**defaults, **options})


def test_an_epoch_takes_every_sample_at_most_once_and_ends_with_a_short_update() -> None:
    p = plan()
    assert (p.passes, p.updates, p.total) == (13, 5, 10)
    assert [p.passes_of(u) for u in range(10)] == [3, 3, 3, 3, 1] * 2
    batches = list(Batches(p, 0))
    assert len(batches) == len(Batches(p, 0)) == 26
    for epoch in (0, 1):
        keys = [k for b in batches[13 * epoch : 13 * epoch + 13] for k in b]
        assert {e for e, _ in keys} == {epoch} and len({i for _, i in keys}) == 52
    assert batches[0] != [(0, i) for _, i in batches[13]], "the epochs have the same order"
    assert list(Batches(plan(seed=1), 0)) != batches


@pytest.mark.parametrize("start", [0, 1, 4, 5, 7, 9, 10])
def test_order_from_an_update_on_is_the_rest_of_the_whole(start: int) -> None:
    p = plan()
    passed = sum(p.passes_of(u) for u in range(start))
    rest = list(Batches(p, 0, start))
    assert rest == list(Batches(p, 0))[passed:] and len(Batches(p, 0, start)) == len(rest)


def test_processes_share_the_samples_of_a_pass() -> None:
    one = list(Batches(plan(batch_size=8), 0))
    two = [list(Batches(plan(processes=2), process)) for process in (0, 1)]
    assert [a + b for a, b in zip(*two, strict=True)] == one


def test_random_numbers_depend_on_all_numbers() -> None:
    drawn = set()
    for numbers in [(0, 1), (1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0,)]:
        seed_all(*numbers)
        drawn.add((float(torch.rand(())), float(np.random.rand())))
    assert len(drawn) == 6


def test_schedule_warms_up_and_falls_to_zero() -> None:
    rates = [lr_at(u, 20, 5, 1.0) for u in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1.0 and sorted(rates[5:], reverse=True) == rates[5:]
    assert 0 < rates[-1] < 0.02


# States


def test_states_are_kept_and_the_last_is_found(tmp_path: Path) -> None:
    for update in (5, 10, 100, 20):
        make_state(tmp_path, update)
    assert [p.name for p in state.steps(tmp_path)] == [f"step_{n:08d}" for n in (10, 20, 100)]
    found, problems = state.latest(tmp_path)
    assert found == tmp_path / "step_00000100" and not problems
    assert state.read_progress(found) == state.Progress(100, [0.1], None, None, {})


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no manifest", "unfinished"])
def test_damaged_state_is_named_and_the_one_before_is_used(tmp_path: Path, damage: str) -> None:
    before, last = make_state(tmp_path, 1), make_state(tmp_path, 2)
    file = last / "model.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "flipped":
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    elif damage == "missing":
        file.unlink()
    elif damage == "no manifest":
        (last / "manifest.json").unlink()
    else:
        last.rename(last.with_suffix(".tmp"))
    found, problems = state.latest(tmp_path)
    assert found == before
    named = {"no manifest": "manifest.json", "unfinished": None}.get(damage, str(file))
    assert (len(problems) == 1 and named in problems[0]) if named else not problems


# Runs


def test_run_leaves_what_it_promises(folder: Path, tmp_path: Path, capsys: Any) -> None:
    import timm

    output = run(folder, tmp_path / "run", drawn=True, optim={"epochs": 2})
    model: Any = timm.create_model(f"local-dir:{output / 'export'}", pretrained=True)
    assert model.class_labels() == ("common", "rare") and not model.is_multi_label()
    assert tuple(model.pretrained_cfg["input_size"]) == (3, 32, 32)
    assert model.explain(torch.randn(1, 3, 32, 32), "rare").target == (1,)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["samples"] == {"train": 37, "valid": 7, "test": 5}
    assert summary["config"]["optim"]["batch_size"] == 8 and summary["environment"]["timm"]
    exported = (output / "export" / "model.safetensors").read_bytes()
    assert summary["weights_sha256"] == hashlib.sha256(exported).hexdigest()
    assert (output / "summary.csv").read_text().count("\n") == 3
    for name in ("curves.png", "samples.png"):
        with Image.open(output / name) as picture:
            assert picture.width > 300
    samples = json.loads((output / "samples.json").read_text())
    assert len(samples["images"]) == 5 and samples["rows"][0]["label"] in ("common", "rare")
    out = capsys.readouterr().out
    assert "starts from: scratch" in out and str(output) in out
    with pytest.raises(InvalidInputError, match="finished"):
        run(folder, tmp_path / "run")


def test_data_is_looked_at_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    from se_zoo.errors import DataError

    shutil.copytree(folder, tmp_path / "data")
    broken = next((tmp_path / "data" / "valid" / "common").iterdir())
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"(?s){broken.name}.*se-zoo check"):
        run(tmp_path / "data", tmp_path / "run")


def test_command_that_checks_all_data_has_the_options_of_the_data() -> None:
    from se_zoo.data import DataConfig
    from se_zoo.train.preflight import _check_command

    config = DataConfig(
        "my pets", csv=Path("pets.csv"), label="kind", ignore=("by", "on"), image="file name",
        outside=True, limit=8,
    )  # fmt: skip
    assert shlex.split(_check_command(config)) == [
        "se-zoo", "check", "my pets", "--outside", "--csv", "pets.csv", "--label", "kind",
        "--ignore", "by", "on", "--image", "file name", "--splits", "train", "valid", "test",
    ]  # fmt: skip


def test_debug_takes_few_samples_and_one_epoch_at_half_size(tmp_path: Path) -> None:
    from se_zoo.train.recipe import Options

    counts = {"train": 7, "valid": 2, "test": 2}
    folder = write_images(tmp_path / "few", counts, lambda i: "cat" if i % 2 else "dog")
    given = make_config(
        {
            "data": {"path": str(folder), "label": None},
            "augment": {"half_size_epochs": 3},
            "optim": {"epochs": 4},
            "run": {"output": str(tmp_path / "run")},
        }
    )
    parts = given.data, given.model, given.augment, given.optim, given.run
    debug = Options(*parts, debug=True).config(given)
    assert (debug.optim.epochs, debug.augment.half_size_epochs) == (1, 1)
    assert (debug.data.limit, debug.optim.batch_size) == (7, 6)
    with undrawn():
        assert len(losses(train(debug))) == 1


@pytest.mark.parametrize("name", ["thesis.tex", "thesis.tmp", "thesis.7.tmp"])
def test_folder_with_something_else_is_left_alone(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InvalidInputError, match=re.escape(f"holds {name}, which")):
            run(folder, tmp_path, run={"overwrite": overwrite})
    assert [p.name for p in tmp_path.iterdir()] == [name]


#: Files that a run writes under a temporary name, and a killed process leaves half-written.
HALF_WRITTEN = ("summary.json.7.tmp", "best/model.safetensors.7.tmp", "features/train.npy.7.tmp")


def test_next_start_removes_half_written_files_of_a_killed_run(
    folder: Path, tmp_path: Path
) -> None:
    output = run(folder, tmp_path / "run")
    (output / "summary.json").unlink()
    (output / "features").mkdir()
    (output / "card").mkdir()
    (output / "card" / "facts.tmp").write_text("mine")
    best = (output / "best" / "model.safetensors").read_bytes()
    for name in HALF_WRITTEN:
        (output / name).write_text("half")
    run(folder, output)
    assert list(output.rglob("*.tmp")) == [output / "card" / "facts.tmp"]
    assert (output / "best" / "model.safetensors").read_bytes() == best
    assert (output / "summary.json").is_file()


def test_only_the_main_process_removes_half_written_files(tmp_path: Path) -> None:
    from se_zoo.train.run_folder import RunFolder

    file = tmp_path / "summary.json.7.tmp"
    file.write_text("half")
    for main in (False, True):
        process: Any = SimpleNamespace(
            is_main_process=main, num_processes=1, wait_for_everyone=lambda: None
        )
        RunFolder(tmp_path, process).claim(overwrite=False)
        assert file.exists() != main


def test_dry_run_says_what_would_be_done_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    run(folder, tmp_path / "run", run={"dry_run": True}, optim={"accumulate": 3})
    out = capsys.readouterr().out
    for part in ("--optim.accumulate 3", "weight decay", "train 37, valid 7, test 5",
                 "2 updates of 8 images x 1 processes x 3 passes", "scratch"):  # fmt: skip
        assert part in out
    assert not (tmp_path / "run").exists()


def test_state_of_another_configuration_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    first = run(folder, tmp_path / "first")
    with pytest.raises(state.StateError, match=r"--optim\.lr 0\.01 -> 0\.02"):
        run(folder, tmp_path / "second", run={"resume": str(first)}, optim={"lr": 0.02})


def test_order_of_where_a_run_starts(folder: Path, tmp_path: Path, capsys: Any) -> None:
    first = run(folder, tmp_path / "first")
    run(folder, tmp_path / "init", run={"init": str(first)})
    assert "starts from: --run.init" in capsys.readouterr().out
    run(folder, tmp_path / "resumed", run={"resume": str(first)})
    assert "starts from: --run.resume" in capsys.readouterr().out
    for name in ("metrics.jsonl", "best/model.safetensors"):
        assert (tmp_path / "resumed" / name).read_bytes() == (first / name).read_bytes(), name
    same = weights(tmp_path / "resumed")
    assert all(torch.equal(v, same[k]) for k, v in weights(first).items()), "nothing was left to do"
    (tmp_path / "first" / "summary.json").unlink()  # killed right before its end
    run(folder, tmp_path / "first", run={"resume": str(tmp_path / "resumed")})
    assert "starts from: its own last checkpoint" in capsys.readouterr().out
    with pytest.raises(state.StateError, match="holds no complete checkpoint"):
        run(folder, tmp_path / "none", run={"resume": str(tmp_path / "nowhere")})


#: Options that change what is computed: (section, field, other value).
EFFECTS = [
    ("data", "limit", 20), ("data", "limit_eval", 3), ("model", "drop_rate", 0.9),
    ("model", "gate", "identity"),
    ("model", "se", False), ("model", "backbone", "test_byobnet"),
    ("model", "input_size", (48, 32)), ("model", "crop_pct", 0.5), ("augment", "scale", (0.1, 0.2)),
    ("augment", "ratio", (0.2, 0.3)), ("augment", "hflip", 0.0), ("augment", "color_jitter", 0.9),
    ("augment", "auto_augment", "rand-m9"), ("augment", "reprob", 1.0),
    ("augment", "mixup", 0.5), ("augment", "cutmix", 1.0), ("augment", "smoothing", 0.2),
    ("augment", "half_size_epochs", 1),
    ("optim", "epochs", 3), ("optim", "batch_size", 4), ("optim", "accumulate", 2),
    ("optim", "lr", 0.02), ("optim", "weight_decay", 5.0), ("optim", "layer_decay", 0.5),
    ("optim", "warmup_epochs", 0.6), ("optim", "clip_grad", 0.01), ("optim", "ema_decay", 0.5),
    ("optim", "class_balance", True), ("run", "seed", 1), ("run", "mixed_precision", "bf16"),
]  # fmt: skip


@pytest.fixture(scope="module")
def usual(folder: Path, tmp_path_factory: Any) -> Path:
    output = run(folder, tmp_path_factory.mktemp("usual"))
    forget_accelerator()
    return output


def test_same_configuration_gives_the_same_weights(
    folder: Path, tmp_path: Path, usual: Path
) -> None:
    again = weights(run(folder, tmp_path / "run", run={"log_every": 3, "save_every": 2}))
    assert all(torch.equal(v, again[k]) for k, v in weights(usual).items())


@pytest.mark.parametrize(("section", "field", "value"), EFFECTS)
def test_every_option_has_an_effect(
    folder: Path, tmp_path: Path, usual: Path, section: str, field: str, value: Any
) -> None:
    config = make_config({"data": {"path": "x", "label": None}, "run": {"output": "x"}})
    assert getattr(getattr(config, section), field) != value
    options: Any = {section: {field: value}}
    output = run(folder, tmp_path / "run", **options)
    other, mine = weights(output), weights(usual)
    if field in ("limit_eval", "crop_pct"):  # these change the scores alone
        summaries = [json.loads((o / "summary.json").read_text()) for o in (output, usual)]
        assert summaries[0]["valid"]["loss"] != summaries[1]["valid"]["loss"]
        return
    assert mine.keys() != other.keys() or any(
        mine[k].shape != other[k].shape or not torch.equal(mine[k], other[k]) for k in mine
    )


def test_every_option_is_tested() -> None:
    """A new field belongs into EFFECTS, or into this list with a test of its own."""
    free = {
        "path", "name", "csv", "splits", "image", "label", "attributes", "ignore",  # test_data_*
        "outside",  # test_hostile_data
        "broken", "accept_changed_data",  # test_skip_images, test_changed_data
        "streaming", "shuffle_buffer",  # test_streams
        "pretrained",  # needs the Hub
        "drop_path_rate",  # test_stochastic_depth
        "freeze_backbone", "freeze_norms",  # test_frozen_runs
        "l1_classifier",  # test_classifier_l1
        "output", "overwrite", "resume", "init", "workers", "dry_run", "trackers",  # their own
        "mean", "std", "args",  # test_arguments_of_the_architecture
        "save_every", "keep", "log_every", "best",  # test_what_is_written_when
        "channels_last", "compile",  # test_layout_and_compilation
    }  # fmt: skip
    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}})
    tested = {(section, field) for section, field, _ in EFFECTS}
    for section in ("data", "model", "augment", "optim", "run"):
        for field in vars(getattr(config, section)):
            name = (section, field)
            assert name in tested or field in free or name == ("model", "name"), name


def test_what_is_written_when(folder: Path, tmp_path: Path) -> None:
    """Four updates an epoch, two epochs."""
    names = {}
    for name, options in {
        "often": {"save_every": 1, "keep": 3, "log_every": 1},
        "rarely": {"save_every": None, "keep": 1, "log_every": 3, "best": "average_precision"},
    }.items():
        output = run(folder, tmp_path / name, optim={"epochs": 2}, run=options)
        names[name] = [s.name for s in state.steps(output / "state")]
    assert names["often"] == ["step_00000006", "step_00000007", "step_00000008"]
    assert names["rarely"] == ["step_00000008"]
    assert len(losses(tmp_path / "often")) == 8
    assert len(losses(tmp_path / "rarely")) == 4, "updates 3 and 6, and the ends of the epochs"
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in names]
    assert "balanced_accuracy" in summaries[0]["best"]
    assert "average_precision" in summaries[1]["best"]


def test_layout_and_compilation(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from se_zoo.train.classify import ClassifierTrainer
    from se_zoo.train.preflight import make_accelerator

    compiled: List[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    for number, on in enumerate((True, False)):
        options = {
            "data": {"path": str(folder), "label": None},
            "run": {"output": str(tmp_path / str(number)), "channels_last": on, "compile": on},
        }
        config = make_config(options)
        trainer = ClassifierTrainer(config, "", make_accelerator(config))
        kernels = [p for p in trainer.raw_model.parameters() if p.dim() == 4 and p.shape[1] > 1]
        layouts = {p.is_contiguous(memory_format=torch.channels_last) for p in kernels}
        assert layouts == {True} if on else False in layouts
        assert (trainer.raw_model in compiled) == on


def test_first_epochs_train_at_half_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the height and width in the first epoch, all of it after that and in evaluation."""
    from se_zoo.train import classify

    seen: List[Any] = []
    resized = classify.ClassifierTrainer.resized

    def record(self: Any, images: torch.Tensor) -> torch.Tensor:
        found = resized(self, images)
        seen.append((self.progress.update, tuple(found.shape[-2:])))
        return found

    monkeypatch.setattr(classify.ClassifierTrainer, "resized", record)
    size: Any = {"augment": {"half_size_epochs": 1}, "model": {"input_size": (32, 48)}}
    run(folder, tmp_path / "run", optim={"epochs": 2}, **size)
    assert dict(seen) == {u: (16, 24) if u < 4 else (32, 48) for u in range(8)}


def test_interrupted_run_goes_on_at_the_size_of_its_epoch(folder: Path, tmp_path: Path) -> None:
    options: Any = {"augment": {"half_size_epochs": 1}, "optim": {"epochs": 2}}
    whole = run(folder, tmp_path / "whole", run={"keep": 9, "save_every": 1}, **options)
    for update in (2, 4):
        part = tmp_path / f"from-{update}"
        shutil.copytree(whole, part)
        (part / "summary.json").unlink()
        for step in state.steps(part / "state")[update:]:
            shutil.rmtree(step)
        run(folder, part, run={"keep": 9}, **options)
        assert losses(part) == losses(whole)


def test_workers_give_the_same_losses(folder: Path, tmp_path: Path, usual: Path) -> None:
    assert losses(run(folder, tmp_path / "run", run={"workers": 2})) == losses(usual)


#: A transformer that is made for one size, unlike timm's test_vit.
VIT = {"backbone": "vit_tiny_patch16_224", "args": ("depth=1", "embed_dim=24")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": {"epochs": 0}}, "--optim.epochs is 0; it must be a number, 1 or more"),
        ({"optim": {"warmup_epochs": 1}}, "warmup-epochs"),
        ({"optim": {"batch_size": 64}}, "37 images"),
        ({"optim": {"batch_size": 7}, "augment": {"mixup": 0.5}}, "even"),
        ({"run": {"best": "no_such_metric"}}, "no_such_metric"),
        ({"augment": {"half_size_epochs": 2}}, "half-size-epochs is 2"),
        ({"augment": {"half_size_epochs": -1}}, "half-size-epochs is -1"),
        (
            {"augment": {"half_size_epochs": 1}, "model": VIT},
            "does not take images of 16 x 16 pixels",
        ),
        ({"run": {"seed": -1}}, "0 or more"),
        ({"run": {"trackers": ["tensorbord"]}}, "tensorbord"),
        ({"optim": {"lr": -1.0}}, "--optim.lr is -1.0"),
        ({"model": {"input_size": (0, 32)}}, "--model.input-size"),
        ({"model": {"crop_pct": 1.5}}, "--model.crop-pct is 1.5"),
        ({"model": {"args": ("foo=1",)}}, "--model.args foo=1"),
        (
            {"model": {"backbone": "densenet121", "drop_path_rate": 0.1}},
            "--model.drop-path-rate 0.1, --model.drop-rate 0.2: .*drop_path_rate",
        ),
        ({"model": {"backbone": "test_resnet.none"}}, "--model.backbone test_resnet.none: .*tag"),
        ({"model": {"crop_pct": 0.01}}, "export is wrong: crop_pct must be .* from 0.05"),
        ({"augment": {"auto_augment": "randx"}}, "auto-augment randx"),
        ({"run": {"mixed_precision": "fp16"}}, "needs a GPU"),
        ({"run": {"trackers": ["comet_ml"]}}, "comet_ml"),
        ({"model": {"name": "resnet18"}}, "no SE head"),
        ({"model": {"name": "r3d_18_sehead"}}, "does not take images"),
        ({"model": {"name": "resnet18_sehead"}}, "--model.backbone"),
    ],
)
def test_options_that_cannot_work_are_refused(
    folder: Path, tmp_path: Path, options: Any, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(folder, tmp_path / "run", **options)


def test_damaged_state_of_a_run_is_said_and_survived(
    folder: Path, tmp_path: Path, usual: Path, capsys: Any
) -> None:
    output = run(folder, tmp_path / "run", run={"save_every": 1})
    (output / "summary.json").unlink()
    last = state.steps(output / "state")[-1]
    (last / "optimizer.bin").write_bytes((last / "optimizer.bin").read_bytes()[:100])
    run(folder, tmp_path / "run")
    out = capsys.readouterr().out
    assert "optimizer.bin has 100 bytes" in out and "step_00000003" in out
    assert losses(output) == losses(usual)
    assert all(torch.equal(v, weights(usual)[k]) for k, v in weights(output).items())


def test_run_without_any_whole_state_does_not_start_anew_unasked(
    folder: Path, tmp_path: Path
) -> None:
    output = run(folder, tmp_path / "run")
    (output / "summary.json").unlink()
    for step in state.steps(output / "state"):
        (step / "optimizer.bin").unlink()
    with pytest.raises(state.StateError, match=r"optimizer\.bin is missing.*--run\.overwrite"):
        run(folder, tmp_path / "run")


def test_weights_that_are_lost_are_not_saved(folder: Path, tmp_path: Path) -> None:
    optim = {"lr": 1000.0, "weight_decay": 1000.0, "epochs": 50}
    with pytest.raises(InvalidInputError, match=r"loss (nan|inf)"):
        run(folder, tmp_path / "run", run={"log_every": 100, "save_every": 1}, optim=optim)
    for step in state.steps(tmp_path / "run" / "state"):
        kept = load_file(step / "model.safetensors")
        assert all(torch.isfinite(v).all() for v in kept.values() if v.is_floating_point())


def test_overwrite_waits_until_all_else_is_known_to_be_right(folder: Path, tmp_path: Path) -> None:
    output = run(folder, tmp_path / "run")
    before = sorted(p.name for p in output.rglob("*"))
    refused: Any = (
        ({"init": str(tmp_path / "none.safetensors")}, WeightsNotFoundError,
         r"none\.safetensors cannot be read"),
        ({"best": "nothing"}, InvalidInputError, r"--run\.best nothing is not a metric"),
        ({"resume": str(output)}, InvalidInputError, r"in a new --run\.output"),
    )  # fmt: skip
    for wrong, error, says in refused:
        with pytest.raises(error, match=says):
            run(folder, output, run={"overwrite": True, **wrong})
        assert sorted(p.name for p in output.rglob("*")) == before
    # Its own weights are read before they go.
    own = {"overwrite": True, "init": str(output)}
    assert "--run.init" in json.loads(
        (run(folder, output, run=own) / "summary.json").read_text()
    )["starts_from"]  # fmt: skip


def test_summary_tells_of_all_sessions(folder: Path, tmp_path: Path) -> None:
    output = run(folder, tmp_path / "run", run={"save_every": 1})
    (output / "summary.json").unlink()
    shutil.rmtree(state.steps(output / "state")[-1])
    run(folder, output)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["starts_from"] == "scratch"
    assert [s["update"] for s in summary["sessions"]] == [0, 3]
    assert "its own last checkpoint" in summary["sessions"][1]["starts_from"]


def test_scores_in_fp32_are_of_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate wraps the forward of what it prepares in autocast."""
    import timm

    from se_zoo.train.ema import EvalWeights

    accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    images = torch.randn(2, 3, 32, 32)
    for decay in (None, 0.9):
        model = timm.create_model("test_resnet", num_classes=4)
        weights = EvalWeights(model, decay)
        prepared = accelerator.prepare(model)
        types = []
        for whole in (prepared, weights.to_model()):
            found: List[Any] = []
            hook = whole.conv1.register_forward_hook(lambda m, i, o, to=found: to.append(o.dtype))
            whole(images)
            hook.remove()
            types += found
        assert types == [torch.bfloat16, torch.float32]
        with torch.no_grad():
            next(model.parameters()).fill_(3)
        weights.average(100)
        changed = next(weights.to_model().parameters())
        assert (changed == 3).all() if decay is None else not (changed == 3).any()


def test_one_attribute_is_trained_and_scored(folder: Path, tmp_path: Path) -> None:
    rows = ["image,Old,split"]
    for split in ("train", "valid", "test"):
        files = sorted((folder / split).rglob("*.png"))
        rows += [f"{f.relative_to(folder)},{n % 2},{split}" for n, f in enumerate(files)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    output = run(folder, tmp_path / "run", data={"csv": tmp_path / "a.csv", "attributes": ["Old"]})
    scores = json.loads((output / "summary.json").read_text())["test"]
    assert set(scores["label_accuracy"]) == {"Old"} and 0 <= scores["average_precision"] <= 1


def test_figures_are_those_of_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassStatScores, MultilabelAveragePrecision

    from se_zoo.train.metrics import Scores, _ClassCounts

    torch.manual_seed(0)
    logits, targets = torch.randn(50, 7), torch.randint(7, (50,))
    counts, theirs = _ClassCounts(7), MulticlassStatScores(7, average=None)
    for part in (slice(0, 30), slice(30, 50)):
        counts.update(logits[part].softmax(1), targets[part])
        theirs.update(logits[part].softmax(1), targets[part])
    assert torch.equal(counts.compute(), theirs.compute())
    answers = torch.randint(2, (50, 2))
    one, two = Scores("a", True, 50, "cpu"), MultilabelAveragePrecision(2, average=None)
    one.update(logits[:, :1], answers[:, :1])
    two.update(logits[:, :2].sigmoid(), answers)
    found = one.compute()
    assert found["average_precision"] == pytest.approx(float(two.compute()[0]), abs=1e-5)
    right = (logits[:, 0] > 0) == answers[:, 0].bool()
    assert found["accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-5)


def test_export_has_the_arguments_that_a_tag_adds() -> None:
    from se_zoo.train.classify import ClassifierTrainer

    name = "tf_efficientnet_lite0_sehead.in1k"
    config = make_config(
        {
            "model": {"name": name, "backbone": None, "gate": "identity", "drop_rate": 0.0},
            "run": {"output": "x"},
            "data": {"path": "x"},
        }
    )
    model: Any = timm.create_model(name, num_classes=3)
    own: Any = SimpleNamespace(config=config)
    args = ClassifierTrainer.model_args(own, model)
    assert args["output_stride"] == 16 and args["gate"] == "identity" and "thresholds" not in args


def test_images_of_different_sizes_are_kept_within_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from se_zoo.train import loader

    table: Any = [(Image.new("RGB", (8 * n, 8)), 0) for n in (1, 1, 50, 1)]
    assert loader.Decoded(table).kept == table
    monkeypatch.setattr(loader, "_DECODED_BYTES_LIMIT", 4 * 8 * 8 * 10)
    assert loader.Decoded(table).kept is None, "the first one is small"


def test_classifier_of_other_labels_is_not_taken_over(folder: Path, tmp_path: Path) -> None:
    """As many labels, and other ones: the shapes alone would let it pass."""
    from se_zoo.train.model import build_model, load_init

    output = run(folder, tmp_path / "run")
    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}}).model
    same = build_model(config, ["common", "rare"], False, "")
    assert "but for" not in load_init(same, output)
    other: Any = build_model(config, ["cat", "dog"], False, "")
    before = other.get_classifier().weight.clone()
    assert "but for the classifier" in load_init(other, output)
    assert torch.equal(other.get_classifier().weight, before)
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(WeightsNotFoundError, match="not finished"):
        load_init(other, tmp_path / "unfinished")
    with pytest.raises(WeightsNotFoundError, match=r"of another model|other shapes"):
        load_init(build_model(replace(config, backbone="test_vit"), ["a"], False, ""), output)


def test_stochastic_depth(folder: Path) -> None:
    from se_zoo.train.model import build_model

    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}}).model
    config = replace(config, drop_path_rate=0.5, backbone="test_convnext")
    model = build_model(config, ["a", "b"], False, "")
    rates = [getattr(m, "drop_prob", None) or 0 for m in model.modules()]
    assert max(rates) == pytest.approx(0.5)


def test_arguments_of_the_architecture() -> None:
    from se_zoo.train.model import build_model, model_args

    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}}).model
    config = replace(config, args=("pad_type=same", "x=3"), mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert model_args(config)["pad_type"] == "same" and model_args(config)["x"] == 3
    model: Any = build_model(replace(config, args=()), ["a", "b"], False, "")
    assert model.image_stats() == ((0.1, 0.2, 0.3), (1, 2, 3))
    with pytest.raises(InvalidInputError, match="name=value"):
        model_args(replace(config, args=("pad_type",)))


def test_tensorboard_is_told(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    output = run(folder, tmp_path / "run", run={"trackers": ["tensorboard"]})
    events = list(output.rglob("events.out.*"))
    assert events and any(b"valid/accuracy" in e.read_bytes() for e in events)
    (output / "summary.json").unlink()
    (output / "card").mkdir()
    (output / "card" / "facts.yaml").write_text("what a person wrote")
    again = {"trackers": ["tensorboard"], "overwrite": True}  # its own files are its own
    run(folder, tmp_path / "run", run=again)
    assert (output / "card" / "facts.yaml").is_file()


# The head alone


def run_head(folder: Path, output: Path, **options: Any) -> Path:
    from se_zoo.train.head_only import HeadTrainer

    options["data"] = {"path": str(folder), "label": None}
    options["run"] = {"output": str(output), "channels_last": False, **options.get("run", {})}
    options["optim"] = {"epochs": 5, "lr": 0.01, **options.get("optim", {})}
    with undrawn():
        return train(make_config(options), "", HeadTrainer)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit"])
def test_head_alone_learns_and_the_export_takes_images(
    folder: Path, tmp_path: Path, backbone: str
) -> None:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    from se_zoo.data import DataConfig, open_table

    output = run_head(folder, tmp_path / "run", model={"backbone": backbone})
    torch.manual_seed(0)
    model: Any = timm.create_model(f"local-dir:{output / 'export'}", pretrained=True).eval()
    table = open_table(DataConfig(str(folder)), "test")
    transform: Any = create_transform(**resolve_data_config(model=model))
    images = torch.stack([transform(table[i][0]) for i in range(len(table))])
    with torch.no_grad():
        right = (model(images).argmax(1) == table.targets).double().mean().item()
    summary = json.loads((output / "summary.json").read_text())
    assert summary["test"]["accuracy"] == pytest.approx(right)
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    means = [row["train_loss"] for row in rows if "train_loss" in row]
    assert means[-1] < means[0]


def test_head_alone_leaves_the_backbone_and_uses_its_cache(folder: Path, tmp_path: Path) -> None:
    first = run(folder, tmp_path / "first")
    init = str(first / "export" / "model.safetensors")
    output = run_head(folder, tmp_path / "run", run={"init": init})
    before, after = weights(first), weights(output)
    changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"se", "fc"}
    made = (output / "features" / "train.npy").stat().st_mtime_ns
    (output / "summary.json").unlink()
    run_head(folder, tmp_path / "run", run={"init": init})
    assert (output / "features" / "train.npy").stat().st_mtime_ns == made
    other = run(folder, tmp_path / "other", optim={"lr": 0.02})
    (output / "summary.json").unlink()
    shutil.rmtree(output / "state")
    init = str(other / "export" / "model.safetensors")
    run_head(folder, tmp_path / "run", run={"init": init})
    assert (output / "features" / "train.npy").stat().st_mtime_ns != made, (
        "features of another model"
    )


def test_head_alone_needs_a_head(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no-se"):
        run_head(folder, tmp_path / "run", model={"se": False})
    with pytest.raises(InvalidInputError, match="no-channels-last"):
        run_head(folder, tmp_path / "run", run={"channels_last": True})
    with pytest.raises(InvalidInputError, match="half-size-epochs"):
        run_head(folder, tmp_path / "run", augment={"half_size_epochs": 1})


def test_head_alone_refuses_a_list_of_features_before_the_run_starts() -> None:
    from se_zoo.train.head_only import HeadTrainer

    class CoaT(torch.nn.Module):
        """It is known by the name of its class."""

    own: Any = SimpleNamespace(config=make_config({"data": {"path": "x"}, "run": {"output": "x"}}))
    with pytest.raises(InvalidInputError, match="list of features"):
        HeadTrainer.wrap(own, CoaT())


# What a run starts from, and what its export says


def test_model_for_other_images_than_rgb_is_refused_first(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"images of 1 channel\(s\)"):
        run(folder, tmp_path / "run", model={"args": ("in_chans=1",)})
    assert not (tmp_path / "run" / "state").exists()


def test_export_has_no_rates_of_its_run() -> None:
    from se_zoo.train.classify import ClassifierTrainer
    from se_zoo.train.model import build_model

    model = {"backbone": "test_convnext", "drop_rate": 0.2, "drop_path_rate": 0.1}
    config = make_config({"model": model, "data": {"path": "x"}, "run": {"output": "x"}})
    own: Any = SimpleNamespace(config=config)
    args = ClassifierTrainer.model_args(own, build_model(config.model, ["a", "b"], False, ""))
    assert args["backbone"] == "test_convnext" and not [n for n in args if n.startswith("drop")]


def test_best_weights_know_the_labels_of_their_run(usual: Path, tmp_path: Path) -> None:
    """They have no config.json beside them."""
    from se_zoo.train.model import build_model, load_init

    config = make_config({"data": {"path": "x"}, "run": {"output": "x"}}).model
    same = build_model(config, ["common", "rare"], False, "")
    other = build_model(config, ["cat", "dog"], False, "")
    shutil.copytree(usual / "best", tmp_path / "run" / "best")
    for output in (usual, tmp_path / "run"):  # the copy is as if the run were unfinished
        assert "but for" not in load_init(same, output / "best")
        assert "but for the classifier" in load_init(other, output / "best")


def distilled(labels: List[str]) -> Any:
    """A small transformer with two classifiers."""
    model: Any = timm.create_model(
        "timm_sehead", backbone="deit_tiny_distilled_patch16_224", img_size=64, embed_dim=48,
        depth=2, num_heads=4, num_classes=len(labels),
    )  # fmt: skip
    model.pretrained_cfg["label_names"] = labels
    return model


def test_both_classifiers_of_other_labels_are_not_taken_over(tmp_path: Path) -> None:
    from se_zoo.train.model import load_init

    save_file(distilled(["cat", "dog"]).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"label_names": ["cat", "dog"]}))
    for labels in (["one", "two"], ["one", "two", "three"]):
        other = distilled(labels)
        before = other.head_dist.weight.clone()
        assert "head_dist.weight" in load_init(other, tmp_path)
        assert torch.equal(other.head_dist.weight, before)


def test_head_alone_takes_a_model_with_two_classifiers() -> None:
    from se_zoo.train.head_only import _HeadOnly

    model = distilled(["cat", "dog"])
    assert _HeadOnly(model).no_weight_decay() == set()
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"se", "head", "head_dist"}
