"""Damaged folders of training runs, which the same command continues."""

import functools
import json
import os
import pickle
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from se_zoo.data import DataConfig
from se_zoo.files import write_json
from se_zoo.models.pretrained.manifest import sha256_of
from se_zoo.train import AugmentConfig, Config, ModelConfig, OptimConfig, RunConfig, engine, train
from se_zoo.train.classify import ClassifierTrainer
from se_zoo.train.resume.stop import Stop

from .case import (
    SPECIAL,
    Case,
    Exploit,
    WrongAnswerError,
    break_bytes,
    change_json,
    kept_folder,
    make_special,
)
from .commands import forget_accelerator, photos


def _config(output: Path) -> Config:
    """Return a tiny run of four updates."""
    return Config(
        DataConfig(str(photos())),
        ModelConfig("timm_sehead", backbone="test_resnet", input_size=(32, 32)),
        AugmentConfig(),
        OptimConfig(epochs=2, batch_size=2, warmup_epochs=0, ema_decay=0.9),
        RunConfig(output=output, save_every=1, log_every=1, keep=2),
    )


class _Killed(ClassifierTrainer):
    """A run that is killed while it validates at its end."""

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Validate after the first epoch."""
        if self.progress.update == self.plan.total:
            raise KeyboardInterrupt
        return super().evaluate(*args, **kwargs)


@functools.lru_cache(maxsize=1)
def interrupted() -> Path:
    """Return the folder of a run that lacks its last update, with two checkpoints."""
    output = kept_folder() / "run"
    with suppress(KeyboardInterrupt):
        train(_config(output), trainer_class=_Killed)
    forget_accelerator()
    return output


def _sign(step: Path) -> None:
    """Make the manifest of a checkpoint fit its files, as somebody could who sends a run along."""
    files = [p for p in step.rglob("*") if p.is_file() and p.name != "manifest.json"]
    listed = {
        str(p.relative_to(step)): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files
    }
    write_json(step / "manifest.json", listed)


def _change_signed(rng: random.Random, file: Path) -> str:
    """Change a file of a checkpoint and its manifest; return what was done."""
    if file.name == "manifest.json":
        file = file.with_name("progress.json")
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        done = change_json(rng, content)
        file.write_text(json.dumps(content))
    else:
        data, done = break_bytes(rng, file.read_bytes())
        file.write_bytes(data)
    _sign(file.parent)
    return f"signed, {file.name}: {done}"


def _change_log(rng: random.Random, log: Path) -> str:
    """Break the log, or put a row in front that no run writes; return what was done."""
    data, done = break_bytes(rng, log.read_bytes())
    if rng.random() < 0.5:
        done = rng.choice(['{"update": "a"}', "[]", "3", "{}", "null"])
        data = done.encode() + b"\n" + log.read_bytes()
    log.write_bytes(data)
    return f"log: {done}"


def _change_place(rng: random.Random, output: Path, file: Path) -> str:
    """Put something else in the place of a file, or beside it; return what was done."""
    if rng.random() < 0.5:
        name = rng.choice(["state/step_99999999999999999999", "state/step_7.tmp", "photo.jpg",
                           "best/x.tmp", "state/step_00000009/x"])  # fmt: skip
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(b"x")
        return f"{name} beside"
    kind = rng.choice(SPECIAL)
    place = rng.choice([file, output / "metrics.jsonl", output / "lock", output / "best"])
    if place.is_dir():
        shutil.rmtree(place)
    make_special(kind, place)
    return f"{kind} for {place.name}"


def make_run(rng: random.Random, folder: Path) -> Case:
    """Write the folder of an interrupted run with damaged files."""
    output = folder / "run"
    shutil.copytree(interrupted(), output)
    steps = sorted((output / "state").iterdir())
    step = steps[-1]
    valid: Optional[bool] = None
    kind = rng.choice(["bytes"] * 3 + ["signed"] * 4 + ["manifest"] * 2 + ["log"] * 2
                      + ["place"] * 2 + ["all", "gone", "pickle", "none"])  # fmt: skip
    file = rng.choice(sorted(p for p in step.rglob("*") if p.is_file()))
    change = f"{kind}, {file.name}"
    if kind in ("bytes", "all"):
        data, done = break_bytes(rng, file.read_bytes())
        for each in steps if kind == "all" else [step]:
            (each / file.relative_to(step)).write_bytes(data)
        change = f"{change}: {done}"
    elif kind == "signed":
        change = _change_signed(rng, file)
    elif kind == "manifest":
        content = json.loads((step / "manifest.json").read_text())
        change = f"manifest: {change_json(rng, content)}"
        (step / "manifest.json").write_text(json.dumps(content))
    elif kind == "log":
        change = _change_log(rng, output / "metrics.jsonl")
    elif kind == "place":
        change = _change_place(rng, output, file)
    elif kind == "gone":
        file.unlink()
    elif kind == "pickle":
        pickles = [p for p in step.rglob("*") if p.suffix in (".bin", ".pkl", ".pt")]
        file = rng.choice(sorted(pickles))
        file.write_bytes(pickle.dumps(Exploit()))
        _sign(step)
        # Accelerate goes on without random states that it cannot read; a run needs none.
        change = f"pickle, {file.name}"
        valid = None if file.name.startswith("random_states") else False
    else:
        valid = True
    return Case(output, valid, change)


def read_run(output: Path) -> Any:
    """Continue a run to its last update; what it exports then is not made.

    Raises:
        WrongAnswerError: If a pickle of the folder was executed.
    """
    forget_accelerator()
    config = _config(output)
    accelerator = engine.make_accelerator(config)
    engine.check_options(config, accelerator)
    trainer = ClassifierTrainer(config, "", accelerator)
    try:
        trainer.restore()
        with Stop(accelerator) as stop:
            engine.TrainingLoop(trainer, stop).run()
        return trainer.progress
    finally:
        trainer.folder.release()
        forget_accelerator()
        if Path("executed").exists():
            with suppress(OSError):
                os.unlink("executed")
            raise WrongAnswerError("a pickle was executed")
