"""The pages of the docs site name what exists: names, options, errors, messages and figures."""

import ast
import dataclasses
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterator, List, Set, Type, get_type_hints

import pytest
import torch

import se_zoo
from se_zoo import SEZooError, cli
from se_zoo.explanations.methods import METHODS, SINGLE_CLASS_METHODS
from se_zoo.models.cfgs import BACKBONES
from se_zoo.models.pretrained.manifest import manifest
from tools import site_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: A word in capitals stands for a value; these are words of the messages.
PLACEHOLDER = r"\b(?!(?:SE|SHA|ONNX)\b)[A-Z][A-Z0-9]+\b"


def own_pages() -> List[Path]:
    """The committed pages."""
    made = {"_build", site_pages.GENERATED}
    return [file for file in DOCS.rglob("*.md") if not made & set(file.relative_to(DOCS).parts)]


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def test_api_page_has_every_public_name() -> None:
    page = read("reference/api.md")
    documented = set(re.findall(r"^\.\. auto\w+:: (?:se_zoo\.)?(\w+)$", page, re.MULTILINE))
    missing = set(se_zoo.__all__) - documented - {"__version__"}
    assert not missing, f"add to docs/reference/api.md: {sorted(missing)}"
    assert "`se_zoo.__version__`" in page


@lru_cache
def error_classes() -> Set[str]:
    """The names of all error classes that the package defines, without importing its extras."""
    known, sources = {SEZooError.__name__}, list((ROOT / "se_zoo").rglob("*.py"))
    classes = [
        node for file in sources for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]  # fmt: skip
    while True:
        more = {c.name for c in classes if known & {ast.unparse(b).split(".")[-1] for b in c.bases}}
        if more <= known:
            return known
        known |= more


def test_api_page_has_every_error_class() -> None:
    page = read("reference/api.md")
    documented = set(re.findall(r"^\.\. autoexception:: (?:\w+\.)*(\w+)$", page, re.MULTILINE))
    assert {"DataError", "PublishError"} <= error_classes()
    assert documented == error_classes()


def option_names(command: Type[Any]) -> Iterator[str]:
    """The names of a command's options, with those of options that are dataclasses themselves."""
    hints = get_type_hints(command)
    for field in dataclasses.fields(command):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from option_names(hints[field.name])
        else:
            yield field.name


def test_command_line_page_has_every_option_of_every_command() -> None:
    parsers, page = site_pages.command_parsers(), site_pages.cli_page()
    assert len(parsers) == len(cli.COMMANDS)
    sections = {s.split("\n")[0]: s for s in page.split("\n## se-zoo ")[1:]}
    assert list(sections) == list(parsers)
    for command, section in zip(cli.COMMANDS, sections.values(), strict=True):
        for name in option_names(command):
            shown = (f"`--{name.replace('_', '-')}`", f"`{name.upper()}`")
            assert any(f"\n{text}" in section for text in shown), f"{command.__name__}: {name}"


def test_command_line_page_has_help_and_default_of_an_option() -> None:
    page = site_pages.cli_page()
    assert "`--method` `{None,contribution," in page and "Default: `auto`" in page
    assert "`--private`, `--no-private`\n: Make a new repository private.\n" in page


def test_command_line_page_escapes_markup_outside_of_code() -> None:
    assert site_pages._plain("a_b <c> `d_e <f>` *g* ``h`_i``") == (
        r"a\_b \<c\> `d_e <f>` \*g\* ``h`_i``"
    )
    assert "`recipes/speaker.py --data.path <out>`" in site_pages.cli_page()


@lru_cache
def messages_of_the_code() -> str:
    """All texts of the package, a line for each; a value inside a text is a NUL."""
    texts: List[str] = []
    for file in (ROOT / "se_zoo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                texts.append("".join(map(str, parts)))
    return "\n".join(" ".join(text.split()) for text in texts)


def quoted_messages() -> List[str]:
    """The error messages that troubleshooting quotes."""
    page = read("troubleshooting.md")
    headings = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    others = re.findall(r"^Also: (.+(?:\n.+)*)", page, re.MULTILINE)
    return headings + [quote for also in others for quote in re.findall(r"`([^`]+)`", also)]


@pytest.mark.parametrize("message", quoted_messages())
def test_troubleshooting_quotes_messages_of_the_code(message: str) -> None:
    """Capitals stand for values; the words between them stand together in one message."""
    words = [re.escape(part) for part in re.split(PLACEHOLDER, message)]
    pattern = ".{0,3}\0.{0,3}".join(part.strip("\\ ") for part in words).replace("\\ ", " ")
    assert re.search(pattern, messages_of_the_code()), message


def test_troubleshooting_quotes_what_python_says_of_a_wrapped_model() -> None:
    with pytest.raises(AttributeError) as caught:
        torch.nn.DataParallel(torch.nn.Linear(1, 1)).explain("me.jpg")  # type: ignore[operator]
    assert f"`AttributeError: {caught.value}`" in " ".join(read("troubleshooting.md").split())


def test_comparison_has_figures_of_the_evidence_only() -> None:
    evidence = read("evidence.md")
    figures = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)", read("comparison.md"))
    assert len(figures) > 15
    missing = [f for f in figures if not re.search(rf"(?<![\d.]){re.escape(f)}(?!\.?\d)", evidence)]
    assert not missing, f"not in docs/evidence.md: {missing}"


def test_every_page_opens_with_a_heading_and_a_sentence() -> None:
    for file in own_pages():
        text = re.sub(r"\A---\n.*?\n---\n", "", file.read_text("utf-8"), flags=re.DOTALL)
        first, _, rest = text.strip().partition("\n\n")
        assert first.startswith("# ") and "\n" not in first, file
        assert rest[0] not in "#`|", f"{file}: say first what the reader can do"


def test_links_to_files_outside_become_pages() -> None:
    docs = ROOT / "docs"
    text = "[a](../recipes/README.md#useful-options) [b](explain.md) [`c`](../pyproject.toml)"
    assert site_pages.link_within_site(text, docs, docs) == (
        "[a](generated/recipes.md#useful-options) [b](explain.md) `c`"
    )
    moved = site_pages.link_within_site(
        "[e](../docs/evidence.md) [f](https://x.y)", ROOT / "recipes", docs, docs / "generated"
    )
    assert moved == "[e](../evidence.md) [f](https://x.y)"


def test_contributing_names_modules_that_exist() -> None:
    """Each in full, from `se_zoo/` on, or as the name of one beside the module before it."""
    folders = ("se_zoo", "tools", "tests", "benchmarks", "recipes", "docs")
    files = [f"/{file}" for folder in folders for file in (ROOT / folder).rglob("*.[pj][ys]")]
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|js))`", text)) - {"tests/test_models.py"}  # timm's own
    assert len(named) > 100
    assert not {name for name in named if not any(file.endswith(f"/{name}") for file in files)}


def test_index_lists_every_page() -> None:
    listed = set(re.findall(r"^([\w/]+)$", read("index.md"), re.MULTILINE))
    pages = {str(file.relative_to(DOCS).with_suffix("")) for file in own_pages()} - {"index"}
    assert not pages - listed, f"add to a toctree of docs/index.md: {sorted(pages - listed)}"


def test_index_lists_every_model_of_the_zoo() -> None:
    assert sorted(re.findall(r"^\| \[`se_zoo/(\w+)`\]", read("index.md"), re.MULTILINE)) == sorted(
        manifest()
    )


def test_every_registered_backbone_is_on_its_page() -> None:
    section = read("any_timm_model.md").split("## Registered architectures")[1]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    named = re.findall(r"`(\w+)`", rows)
    assert sorted(named) == sorted(set(BACKBONES) - {"resnet18_slim"})  # it stands below the table


def test_every_method_is_on_its_page() -> None:
    named = re.findall(r'^\|[^|]+\| `"(\w+)"` \|', read("explain.md"), re.MULTILINE)
    assert sorted(named) == sorted(METHODS)
    page = (ROOT / "release" / "endpoint" / "README.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| `method`")]
    assert re.findall(r"`(\w+)`", row) == ["method", *SINGLE_CLASS_METHODS]


def test_there_are_six_notebooks() -> None:
    assert len(list((DOCS / "notebooks").glob("*.md"))) == 6


def test_every_picture_is_small_used_and_described() -> None:
    """The alt text is for those who do not see the picture: it says what is on it."""
    used = set()
    for file in own_pages():
        for text, target in re.findall(r"!\[(.*?)\]\(([^)]+)\)", file.read_text("utf-8")):
            picture = (file.parent / target).resolve()
            assert picture.is_file(), f"{file.name}: {target}"
            assert len(text.split()) >= 5, f"{file.name}: describe {target}"
            used.add(picture)
    drawn = set((DOCS / "pictures").iterdir())
    assert drawn <= used, f"not shown: {sorted(file.name for file in drawn - used)}"
    assert max(file.stat().st_size for file in drawn) < 150_000


def test_every_extra_that_a_page_installs_exists() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    known = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert "demo" in known
    for file in own_pages():
        for extras in re.findall(r"pip install [^\n`]*\[([\w,]+)\]", file.read_text("utf-8")):
            missing = set(extras.split(",")) - known
            assert not missing, f"{file.name}: {missing}"


def shown_commands() -> List[str]:
    """The uses of se-zoo that the pages and the READMEs show, without the word itself."""
    files = [*own_pages(), ROOT / "README.md", ROOT / "recipes" / "README.md"]
    lines = "\n".join(file.read_text("utf-8").replace("\\\n", " ") for file in files)
    return re.findall(
        r"^(?: {4}|!|torchrun .*)[^\n#]*?\bse-zoo ([a-z]+ [^\n#|]*)", lines, re.MULTILINE
    )


def test_every_command_that_a_page_shows_has_these_options() -> None:
    sections = {s.split("\n")[0]: s for s in site_pages.cli_page().split("\n## se-zoo ")[1:]}
    shown = shown_commands()
    assert len(shown) > 40
    for line in shown:
        command, *words = line.split()
        assert command in sections, line
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert f"`{option}`" in sections[command], f"se-zoo {line}: no option {option}"


def test_readme_has_at_most_a_thousand_words() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 1000
