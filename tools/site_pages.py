"""Write the pages of the docs site that are made of other files, and the site's llms.txt.

The pages go to docs/generated, which is not committed: the options of every command, from the
parsers; the recipes, benchmarks, results and model cards, from their README files; the changelog.
"""

import argparse
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Match, Tuple
from unittest import mock

import tyro

from se_zoo import cli
from se_zoo.files import write_text
from se_zoo.models.pretrained.manifest import manifest

ROOT = Path(__file__).resolve().parents[1]
#: Folder below docs/ of the pages that are written here.
GENERATED = "generated"
#: Files outside docs/ that become pages, and the names of these pages.
OUTSIDE = {
    "recipes/README.md": "recipes",
    "benchmarks/README.md": "benchmarks",
    "benchmarks/results/README.md": "results",
    "CHANGELOG.md": "changelog",
}
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)")
_PICTURES = (".png", ".svg", ".jpg")


def outside_pages() -> Dict[str, str]:
    """Return the files outside docs/ that become pages, with the names of the pages."""
    cards = {f"hub_cards/{name}/hub/README.md": f"models/{name}" for name in manifest()}
    return {**OUTSIDE, **cards}


def write_generated_pages(docs: Path) -> None:
    """Write docs/generated anew.

    Args:
        docs: Folder of the site's sources.
    """
    folder = docs / GENERATED
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    for file, name in outside_pages().items():
        source, page = ROOT / file, folder / f"{name}.md"
        text = re.sub(r"\A---\n.*?\n---\n", "", source.read_text("utf-8"), flags=re.DOTALL)
        write_text(page, link_within_site(text, source.parent, docs, page.parent))
    write_text(folder / "cli.md", cli_page())


def link_within_site(text: str, folder: Path, docs: Path, moved_to: "Path | None" = None) -> str:
    """Turn links to files that become pages into links to these pages.

    Links to other files of the repository become plain code, as the site does not have them.

    Args:
        text: Markdown.
        folder: Folder that its links start from.
        docs: Folder of the site's sources.
        moved_to: Folder that the text is moved to; by default it stays in ``folder``.
    """
    pages = {ROOT / file: docs / GENERATED / f"{name}.md" for file, name in outside_pages().items()}
    start = moved_to or folder

    def replaced(match: Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or ":" in target:
            return match[0]
        file = Path(os.path.normpath(folder / target))
        if file.is_dir() and (file / "README.md") in pages:
            file = file / "README.md"
        if not file.exists() or (docs in file.parents and moved_to is None):
            return match[0]
        inside = file in pages or docs in file.parents or file.suffix in _PICTURES
        if not inside:
            return f"`{match['text'].strip('![]`')}`"
        path = os.path.relpath(pages.get(file, file), start)
        return f"{match['text']}({path}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(replaced, text)


class _Captured(Exception):
    """The command line's parser was captured; it is not run."""


def command_parsers() -> Dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of ``se-zoo``, by its name."""
    calls: List[Tuple[Any, Dict[str, Any]]] = []

    def capture(commands: Any, **options: Any) -> None:
        calls.append((commands, options))
        raise _Captured

    with mock.patch.object(tyro, "cli", capture):
        try:
            cli.main(["list"])
        except _Captured:
            pass
    commands, options = calls[0]
    options.pop("args")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro has no other way to a parser
        parser = tyro.extras.get_parser(commands, **options)
    (choices,) = (a.choices for a in parser._actions if isinstance(a.choices, dict))
    return dict(choices)


def cli_page() -> str:
    """Return the page of all commands and their options, as Markdown."""
    parts = [
        "# Command line\n\nThis page lists every command and every option. `se-zoo COMMAND --help` "
        "prints the same in a terminal. An error is one line, and the exit status is then not 0."
    ]
    for name, parser in command_parsers().items():
        parts.append(f"## se-zoo {name}\n\n{_plain(parser.description or '')}")
        entries = [_entry(action) for action in parser._actions if action.dest != "help"]
        parts.append("\n\n".join(entries) or "It has no options.")
    return "\n\n".join(parts) + "\n"


def _entry(action: argparse.Action) -> str:
    """Return one option as an item of a definition list."""
    name = action.dest.rpartition(".")[2]
    flags = [flag for flag in action.option_strings if not flag.startswith("--no-no-")]
    title = ", ".join(f"`{flag}`" for flag in flags) or f"`{name.upper()}`"
    values = action.metavar if isinstance(action.metavar, str) else ""
    # An option that may be left out is no option with the value None.
    values = re.sub(r"\{None\}\||^\[|\]$", "", values) if action.option_strings else ""
    text, _, default = (action.help or "").partition(" (default: ")
    default = default.removesuffix(")")
    shown = "" if default in ("", "None", "False") else f" Default: `{default}`."
    value = f" `{values}`" if values else ""
    return f"{title}{value}\n: {_plain(text).replace(chr(10), ' ')}{shown}"


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup in a help text, outside of code."""
    found = re.compile(r"(`+).+?\1|[<>*_|]", re.DOTALL)
    return found.sub(lambda match: match[0] if match[1] else rf"\{match[0]}", text.strip())


def write_llms_txt(app: Any, error: Any) -> None:
    """Write llms.txt: every page with its title, its first sentence and its Markdown source.

    Args:
        app: Sphinx, after the build.
        error: The error that ended the build, or None.
    """
    if error is None and app.builder.name == "html":
        write_text(Path(app.outdir) / "llms.txt", llms_txt(app.env))


def llms_txt(env: Any) -> str:
    """Return the text of llms.txt (https://llmstxt.org).

    Args:
        env: Sphinx's environment after reading all pages.
    """
    lines = ["# se_zoo", "", f"> {_first_sentence(env.get_doctree('index'))}", ""]
    for name in _in_order(env, "index"):
        source = os.path.basename(env.doc2path(name)).rpartition(".")[2]
        about = _first_sentence(env.get_doctree(name))
        lines.append(f"- [{env.titles[name].astext()}](_sources/{name}.{source}): {about}")
    return "\n".join(lines) + "\n"


def _in_order(env: Any, name: str) -> Iterator[str]:
    """Yield the pages below a page, in the order of its tables of contents."""
    for child in env.toctree_includes.get(name, ()):
        yield child
        yield from _in_order(env, child)


def _first_sentence(doctree: Any) -> str:
    """Return the first sentence of a page's first paragraph."""
    from docutils import nodes

    paragraph = next(iter(doctree.findall(nodes.paragraph)), None)
    text = "" if paragraph is None else " ".join(paragraph.astext().split())
    first = re.split(r"(?<=[.!?]) ", text)[0]
    return first[:-1] + "." if first.endswith(":") else first
