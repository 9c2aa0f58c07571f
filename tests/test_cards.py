"""Cards: every model has one, every figure in it has a source, and none is out of date."""

import re
from pathlib import Path
from typing import Any, Dict

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard

import se_zoo
from se_zoo import InvalidInputError
from se_zoo.hub.card import render
from se_zoo.hub.facts import read_facts
from se_zoo.hub.size import measure_size
from se_zoo.hub.sources import PROVENANCE, read_source, read_sources
from se_zoo.hub.zoo import FACTS, card_folder, card_names, zoo_subject
from se_zoo.models.manifest import cards_folder, manifest
from se_zoo.models.names import ALIASES, PREFIX
from se_zoo.models.pull import BUNDLED

from .write_cards import README, card_text, readme_text

FACTS_FILES = sorted(cards_folder().rglob("*.yaml"))
#: A figure as people write it: 88.8 %, 0.62, 1,000; and what looks like one.
_FIGURE = re.compile(r"\d+(\.\d+)?\s?%|\d+\.\d+|\d,\d{3}")
_NOT_FIGURES = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|arXiv \d{4}\.\d{4,5}|--optim\.lr \S+|10,000[- ]image|1,000 classes"
    r"|doi \S+|CC BY 4\.0|cc-by-4\.0",
    re.S,
)


def header(card: ModelCard) -> Dict[str, Any]:
    return yaml.safe_load(str(card).split("---")[1])


@pytest.mark.parametrize("name", card_names())
def test_every_tag_has_a_card(name: str) -> None:
    """It renders, its YAML is what the Hub reads, and it says whether there are weights."""
    card = render(zoo_subject(name))
    data = header(card)
    assert data["library_name"] == "timm" and data["license"]
    assert {"timm", "se_zoo"} <= set(data["tags"])
    assert f"# {name}" in card.text
    untrained = name in ALIASES.values() and ALIASES_BACK[name] not in se_zoo.list_models(True)
    said = "**Not trained yet.**" in card.text or "**Not published yet.**" in card.text
    assert said == untrained
    assert ("**No weights of this zoo.**" in card.text) == (name not in ALIASES.values())
    assert "{{" not in card.text and "{%" not in card.text


ALIASES_BACK = {registry: PREFIX + own for own, registry in ALIASES.items()}


def test_model_index_holds_the_measured_figures() -> None:
    subject = zoo_subject("se_zoo/resnet18_slim_celeba")
    results = render(subject).data.eval_results or []
    measured = subject.sources["training"]["test"]
    found = {r.metric_type: r.metric_value for r in results}
    assert found == {k: measured[k] for k in ("accuracy", "balanced_accuracy")}
    assert {(r.dataset_type, r.dataset_split) for r in results} == {("flwrlabs/celeba", "test")}


@pytest.mark.parametrize("own", sorted(ALIASES))
def test_cards_in_the_repository_are_up_to_date(own: str) -> None:
    """`python -m tests.write_cards` writes them anew."""
    file = card_folder(own) / "README.md"
    assert file.read_text("utf-8") == card_text(own)


def test_table_of_the_readme_is_up_to_date() -> None:
    assert README.read_text("utf-8") == readme_text()


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
    files = [p for p in cards_folder().rglob("*.json") if p.name != "manifest.json"]
    assert len(files) >= 7
    for file in files:
        content = read_source(file)
        assert all(content[key] for key in PROVENANCE), file


def test_source_without_its_origin(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"plain_ms": 3, "command": "bench"}')
    with pytest.raises(InvalidInputError, match="commit, environment"):
        read_sources(tmp_path)


def test_figure_that_no_file_has() -> None:
    subject = zoo_subject("se_zoo/resnet18_slim_celeba")
    subject.facts.summary = "It scores {{ training.test.acuracy | percent }}."
    with pytest.raises(InvalidInputError, match="acuracy"):
        render(subject)


def test_facts_of_all_models_are_complete() -> None:
    for own in ALIASES:
        facts = read_facts(card_folder(own) / FACTS)
        assert facts.intended_use and facts.limits and facts.bias and facts.citation


def test_bundled_weights_are_those_of_the_manifest() -> None:
    for name in BUNDLED:
        assert manifest()[name.removeprefix(PREFIX)].commit is None
        assert "as published" in se_zoo.hub.verify(name)


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


def test_card_of_a_model_that_is_not_there(capsys: pytest.CaptureFixture) -> None:
    from se_zoo import cli

    with pytest.raises(SystemExit) as stop:
        cli.main(["card", "resnet50_celebb"])
    assert "Closest: se_zoo/resnet50_celeba" in str(stop.value.code)
    cli.main(["card", "se_zoo/resnet50_celeba"])
    assert "Not trained yet" in capsys.readouterr().out
