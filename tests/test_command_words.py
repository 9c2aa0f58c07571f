"""Words of the command line: repeated options, empty arguments, files that look like options."""

from pathlib import Path
from typing import Any, List, Tuple, get_type_hints

import pytest

from se_zoo import cli
from se_zoo.cli.printed import error_row
from se_zoo.cli.tables import writing_table
from se_zoo.cli.words import _SEVERAL, repeats_joined
from se_zoo.data.faces.ava import write_rows


def given(monkeypatch: pytest.MonkeyPatch, command: type, *words: str) -> Any:
    """The options that a command gets."""
    got: List[Any] = []
    monkeypatch.setitem(cli.COMMANDS, command, got.append)
    cli.main(words)
    return got[0]


@pytest.mark.parametrize(
    "words, joined",
    [
        ("predict p --target A --target B --out o", "predict p --target A B --out o"),
        ("predict --target=A --out o --target B p", "predict --out o --target A B p"),
        ("predict --target A p --out o", "predict --target A p --out o"),
        ("export m --target A -1 --target=2", "export m --target A -1 2"),
        ("export m --target A -- --target B", "export m --target A -- --target B"),
        ("check d --attributes A --ignore x --attributes B C",
         "check d --ignore x --attributes A B C"),
        ("explain a.jpg --target A --target B", "explain a.jpg --target A --target B"),
        ("list --target A --target B", "list --target A --target B"),
    ],
)  # fmt: skip
def test_repeated_options_are_joined(words: str, joined: str) -> None:
    assert repeats_joined(words.split()) == joined.split()


def test_every_option_of_several_values_is_joined() -> None:
    """tyro keeps the last occurrence alone, unless it is told to append."""
    for command in cli.COMMANDS:
        hints = get_type_hints(command, include_extras=True)
        several = tuple(f"--{n}" for n, kind in hints.items() if kind == Tuple[str, ...])
        assert set(several) == set(_SEVERAL.get(command.__name__.lower(), ())), command


def test_no_repeated_target_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = "--target", "Smiling", "--target=Male"
    args = given(monkeypatch, cli.Predict, "predict", "photos", *targets, "--out", "o")
    assert (args.source, args.target) == ("photos", ("Smiling", "Male"))
    assert given(monkeypatch, cli.Export, "export", "m", *targets).target == ("Smiling", "Male")


def test_files_after_two_dashes_may_look_like_options(monkeypatch: pytest.MonkeyPatch) -> None:
    args = given(monkeypatch, cli.Explain, "explain", "a.jpg", "--json", "--", "-b.jpg", "--c")
    assert args.sources == ("a.jpg", "-b.jpg", "--c") and args.json


@pytest.mark.parametrize(
    "words, says",
    [
        (["explain", ""], "the argument after explain is empty: is a variable"),
        (["predict", "photos", "--out", ""], "the argument after --out is empty"),
        (["predict", "photos", "--out="], "--out is empty"),
    ],
)
def test_empty_arguments_are_refused(words: List[str], says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        cli.main(words)


def test_picture_in_a_folder_without_a_name_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"--out \. must be a \.png file"):
        cli.main(["explain", "--out", "."])


def test_option_for_runs_is_refused_for_a_model_of_the_zoo() -> None:
    with pytest.raises(SystemExit, match="--repo is for the card of a run"):
        cli.main(["card", "se_zoo/resnet18_slim_celeba", "--repo", "you/faces"])


def test_lines_of_tables_end_as_shells_expect(tmp_path: Path) -> None:
    with writing_table(tmp_path / "t.csv") as write:
        write(error_row("a.jpg", "broken"))
    write_rows(tmp_path / "scores.csv", [["a", 0.5]])
    assert (tmp_path / "t.csv").read_bytes().endswith(b"a.jpg,broken,,,,,,,,\n")
    assert (tmp_path / "scores.csv").read_bytes() == b"a,0.5\n"
