"""Every number among the options has a range; values outside are refused before a run starts."""

import math
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, Tuple

import pytest

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")

from se_zoo import InvalidInputError
from se_zoo.data import ClipDataConfig, DataConfig, TrackDataConfig
from se_zoo.ranges import Range, check_ranges, ranges_of
from se_zoo.train import (
    AugmentConfig,
    ClipModelConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SpeakerAugmentConfig,
    SpeakerModelConfig,
    train,
)

from .train_run import make_config

CONFIGS = (DataConfig, ClipDataConfig, TrackDataConfig, ModelConfig, ClipModelConfig,
           SpeakerModelConfig, AugmentConfig, SpeakerAugmentConfig, OptimConfig,
           RunConfig)  # fmt: skip


def is_number(hint: Any) -> bool:
    """Whether a field holds numbers, by its type as text."""
    text = str(hint).replace("Literal[1, 2, 3]", "").replace("Literal[1, 3]", "")
    return "int" in text or "float" in text


@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_has_a_range_that_its_default_lies_in(config: Any) -> None:
    for name, allowed, hint in ranges_of(config):
        assert allowed is not None or not is_number(hint), f"{config.__name__}.{name} has no range"
        default = getattr(config, name, None)
        if allowed is not None and default is not None:
            assert not allowed.problem(default), name


def outside() -> Iterator[Tuple[str, str, Any]]:
    """Values outside the range of each number of an image run."""
    given = make_config({"data": {"path": "x"}, "run": {"output": "x"}})
    for section in ("data", "model", "augment", "optim", "run"):
        part = getattr(given, section)
        for name, allowed, hint in ranges_of(type(part)):
            if allowed is None:
                continue
            for wrong in (allowed.least - 1, allowed.most * 2, math.nan, math.inf):
                count = str(hint).count("float, ") + 1 if "Tuple" in str(hint) else 0
                yield section, name, (wrong,) * count if count else wrong


@pytest.mark.parametrize(("section", "name", "value"), list(outside()))
def test_value_outside_its_range_is_refused(section: str, name: str, value: Any) -> None:
    options: Dict[str, Any] = {"data": {"path": "x"}, "run": {"output": "x"}}
    options.setdefault(section, {})[name] = value
    option = f"--{section}.{name.replace('_', '-')} is "
    with pytest.raises(InvalidInputError, match=option):
        check_ranges(make_config(options))


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"augment": {"scale": (0.9, 0.5)}}, "the first number must not be above the second"),
        ({"augment": {"scale": (5, 9)}}, "--augment.scale is 5 9; it must be a number, above 0"),
        ({"optim": {"lr": math.nan}}, "--optim.lr is nan"),
        ({"optim": {"clip_grad": 0.0}}, "--optim.clip-grad is 0.0"),
        ({"run": {"workers": 1000}}, "--run.workers is 1000; this machine takes at most"),
        ({"run": {"output": Path()}}, "--run.output is empty"),
        ({"model": {"drop_rate": "much"}}, "--model.drop-rate is much"),
    ],
)
def test_run_with_such_a_value_stops_before_anything_is_read(
    tmp_path: Path, options: Dict[str, Dict[str, Any]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = {"output": str(tmp_path / "run"), **options.pop("run", {})}
    with pytest.raises(InvalidInputError) as info:
        train(make_config({"data": {"path": "no folder"}, "run": run, **options}))
    assert says in str(info.value)
    assert not list(tmp_path.iterdir())


def test_nested_dataclasses_name_the_whole_option() -> None:
    @dataclass
    class Part:
        share: Annotated[float, Range(0, 1)] = 2.0

    @dataclass
    class Whole:
        part: Part

    globals()["Part"] = Part  # its annotations are looked up here
    assert is_dataclass(Whole(Part()).part)
    with pytest.raises(InvalidInputError, match=r"--part.share is 2.0; it must be a number, 0 or"):
        check_ranges(Whole(Part()))
