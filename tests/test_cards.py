"""Cards: every model has one, and every figure in it has a source."""

import re
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard

from se_zoo import InvalidInputError, cli
from se_zoo.hub.card import base_model, render
from se_zoo.hub.facts import read_facts
from se_zoo.hub.size import measure_size
from se_zoo.hub.sources import PROVENANCE, read_source, read_sources
from se_zoo.hub.zoo_cards import (
    FACTS,
    backbone_subject,
    card_folder,
    card_names,
    card_text,
    own_name,
)
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, manifest
from tools.write_cards import END, README, START, readme_text

FACTS_FILES = sorted(cards_folder().rglob("*.yaml"))
#: A figure as people write it: 88.8 %, 0.62, 1,000; and what looks like one.
_FIGURE = re.compile(r"\d+(\.\d+)?\s?%|\d+\.\d+|\d,\d{3}")
_NOT_FIGURES = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|arXiv \d{4}\.\d{4,5}|--optim\.lr \S+|10,000[- ]image|1,000 classes"
    r"|doi \S+|CC BY 4\.0|cc-by-4\.0|apache-2\.0",
    re.S,
)


@pytest.fixture(autouse=True)
def no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards are made of shapes; on the meta device, drawing weights takes most of the time."""
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *args: tensor)


def header(card: ModelCard) -> Dict[str, Any]:
    return yaml.safe_load(str(card).split("---")[1])


def tags() -> List[Any]:
    """Every name that has a card. A tag of an architecture, of a number of classes and of a licence
    that came before is slow, if its card is rendered, for which the model is built."""
    found: List[Any] = []
    seen: Set[Any] = set()
    for name in card_names():
        cfg: Any = timm.get_pretrained_cfg(name)
        kinds = {cfg.architecture, (cfg.num_classes, cfg.license)}
        known = kinds <= seen and own_name(name) is None
        found.append(pytest.param(name, marks=pytest.mark.slow if known else ()))
        seen |= kinds
    return found


@pytest.mark.parametrize("name", tags())
def test_every_tag_has_a_card(name: str) -> None:
    """It renders, its YAML is what the Hub reads, and it says whose the weights are."""
    card = ModelCard(card_text(name))
    data = header(card)
    own = own_name(name)
    assert data["library_name"] == "timm" and data["license"]
    assert {"timm", "se_zoo"} <= set(data["tags"])
    assert f"# {name if own is None else f'se-zoo/{own}'}" in card.text
    assert ("**No weights of this zoo.**" in card.text) == (own is None)
    assert "{{" not in card.text and "{%" not in card.text


@pytest.mark.parametrize("name", sorted(manifest()))
def test_model_index_holds_the_measured_figures(name: str) -> None:
    """Those of the stored weights on the official test part, or else those of the training."""
    card = ModelCard(card_text(f"se_zoo/{name}"))
    results = card.data.eval_results or []
    training, test = (card_folder(name) / f"{file}.json" for file in ("training", "test"))
    assert bool(results) == (training.is_file() or test.is_file())
    for found in results:
        if test.is_file():
            measured = read_source(test)["figures"][found.metric_type]["value"]
        else:
            measured = read_source(training)[found.dataset_split][found.metric_type]
        assert found.metric_value == pytest.approx(measured, abs=1e-4)
    assert str(card) == (hub_folder(name) / "README.md").read_text("utf-8")


def test_table_of_the_readme_is_up_to_date() -> None:
    """Every model of the manifest, and no other."""
    text = README.read_text("utf-8")
    assert text == readme_text()
    table = text.split(START)[1].split(END)[0]
    assert re.findall(r"`se_zoo/(\w+)`", table) == sorted(manifest())


@pytest.mark.parametrize("file", FACTS_FILES, ids=lambda f: str(f.relative_to(cards_folder())))
def test_no_figure_is_typed_into_facts(file: Path) -> None:
    """Figures are quoted from their files, so that they cannot be wrong or out of date."""
    text = "\n".join(
        line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")
    )
    left = _NOT_FIGURES.sub("", text)
    assert not _FIGURE.search(left), _FIGURE.search(left)


def test_no_figure_is_typed_into_the_template() -> None:
    text = (cards_folder() / "template.md").read_text("utf-8")
    left = re.sub(r"doi \S+", "", _NOT_FIGURES.sub("", text))
    assert not _FIGURE.search(left), _FIGURE.search(left)


def test_every_file_of_figures_says_how_it_was_made() -> None:
    others = ("manifest.json", "config.json")
    files = [p for p in cards_folder().rglob("*.json") if p.name not in others]
    assert len(files) >= 7
    for file in files:
        content = read_source(file)
        assert all(content[key] for key in PROVENANCE), file


def test_source_without_its_origin(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"plain_ms": 3, "command": "bench"}')
    with pytest.raises(InvalidInputError, match="commit, environment"):
        read_sources(tmp_path)


def test_figure_that_no_file_has() -> None:
    subject = backbone_subject("resnet10t_sehead")
    subject.facts.summary = "It has {{ size.gmac }} GMACs."
    with pytest.raises(InvalidInputError, match="'gmac'"):
        render(subject)


def test_base_model_is_what_the_run_started_from() -> None:
    """--run.init replaces the weights of --model.pretrained."""
    model = {"name": "timm_sehead", "backbone": "resnet18.a1_in1k", "pretrained": True}
    config = {"model": model, "run": {"init": None}}
    assert base_model({"config": config}) == "timm/resnet18.a1_in1k"
    assert base_model({"config": {**config, "run": {"init": "runs/other"}}}) is None


def test_facts_of_all_models_are_complete() -> None:
    for own in (*manifest(), "asd_small_ava"):
        facts = read_facts(card_folder(own) / FACTS)
        assert facts.intended_use and facts.limits and facts.bias and facts.citation


def test_size_is_counted_alike_everywhere() -> None:
    """Against timm's published counts of the backbone, and on a model with and without weights."""
    model = timm.create_model("resnet50_sehead")
    size = measure_size(model)
    with torch.device("meta"):
        assert measure_size(timm.create_model("resnet50_sehead")) == size
    block = sum(p.numel() for p in model.se.parameters())
    assert size["parameters"] == 25_557_032 + block
    assert size["gmacs"] == pytest.approx(4.1, abs=0.05)  # timm/resnet50.a1_in1k: 4.1 GMACs
    assert size["mactivations"] == pytest.approx(11.1, abs=0.05)  # and 11.1 M activations
    assert size["map"] == [7, 7] and size["channels"] == 2048


def test_size_of_every_architecture_was_counted() -> None:
    """`python -m tools.write_cards --sizes` does; without it a card has no size, and says nothing
    of whether the maps are exact. Other versions of timm have further tags of an architecture."""
    counted = read_source(cards_folder() / "sizes.json")["models"]
    others = {name.split(".")[0] for name in card_names() if own_name(name) is None}
    assert not others - {name.split(".")[0] for name in counted}


def test_card_of_a_model_that_is_not_there(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["card", "resnet18_slim_celebb"])
    assert "Closest: se_zoo/resnet18_slim_celeba" in str(stop.value.code)
    for name in ("resnet18_slim_celeba", "resnet18_slim_sehead", "se_zoo/resnet18_slim_celeba"):
        cli.main(["card", name])
        assert "# se-zoo/resnet18_slim_celeba\n" in capsys.readouterr().out
