"""The built site: no warning, no broken link, every name and option, and notebooks with outputs.

`.ci/run` builds the site before the tests and names its folder in SE_ZOO_SITE.
"""

import html
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

import se_zoo
from tools import build_docs, site_pages

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(file.stem for file in (ROOT / "docs" / "notebooks").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="needs the extra docs")
    pytest.importorskip("myst_nb", reason="needs the extra docs")
    if built := os.environ.get("SE_ZOO_SITE"):
        return Path(built)
    out = tmp_path_factory.mktemp("docs") / "html"
    done = subprocess.run(
        [sys.executable, "-m", "tools.build_docs", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_ran_and_shows_outputs(site: Path, name: str) -> None:
    page = (site / "notebooks" / f"{name}.html").read_text("utf-8")
    assert page.count('class="output') > 1 or page.count("cell_output") > 1
    assert "Traceback" not in page and 'class="output stderr' not in page
    if name == "save_and_share":  # a command that fails does not stop a notebook
        assert "facts.yaml: fill it in" in page and "would go to you/uniforms" in page
    else:
        assert "<img" in page


@pytest.mark.slow
def test_notebook_shows_the_picture_of_an_explanation_that_a_cell_names(site: Path) -> None:
    page = (site / "notebooks" / "first_explanation.html").read_text("utf-8")
    named = 0
    for cell in page.split('<div class="cell_input')[1:]:
        code, _, output = cell.partition('<div class="cell_output')
        lines = html.unescape(re.sub("<[^>]+>", "", code)).strip().splitlines()
        if lines[-1] == "explanation":
            named += 1
            picture = re.search(r'<img[^>]* src="\.\./(_images/[^"]+\.png)"', output)
            assert picture, "the cell's output is no picture"
            with Image.open(site / picture[1]) as image:
                assert min(image.size) > 200
    assert named == 3


@pytest.mark.slow
def test_site_has_every_public_name_and_command(site: Path) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1])
    names = {line.split(" ")[0] for line in inventory.decode().splitlines()}
    missing = {f"se_zoo.{name}" for name in se_zoo.__all__ if name != "__version__"} - names
    assert not missing
    page = (site / "generated" / "cli.html").read_text("utf-8")
    for command in site_pages.command_parsers():
        assert f"se-zoo {command}" in page


@pytest.mark.slow
def test_llms_txt_lists_every_page_with_its_source(site: Path) -> None:
    text = (site / "llms.txt").read_text("utf-8")
    assert text.startswith("# se_zoo\n\n> se_zoo makes timm classifiers explain")
    sources = {str(f.relative_to(site)) for f in (site / "_sources").rglob("*.md")}
    linked = {line.split("](")[1].split(")")[0] for line in text.splitlines() if "](" in line}
    assert linked == sources - {"_sources/index.md"}
    assert all(line.endswith((".", "?", "!")) for line in text.splitlines() if "](" in line)


@pytest.mark.parametrize("earlier", [True, False])
def test_an_earlier_build_is_removed_and_no_other_folder(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "html" / "old.html"

    def sphinx(command: object, env: object) -> "subprocess.CompletedProcess[str]":
        assert old.exists() != earlier
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(build_docs.subprocess, "run", sphinx)
    old.parent.mkdir()
    old.write_text("<p>no longer a page</p>")
    if earlier:
        (old.parent / ".buildinfo").touch()
    build_docs.build(build_docs.Build(out=old.parent))


def test_broken_links_and_foreign_scripts_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">1</a><a href="#top">2</a>'
        '<a href="b.html#gone">3</a><a href="c.html">4</a><a href="https://x.y/z">5</a>'
        '<img src="d.png"><script src="https://x.y/z.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p><img src="data:image/png;base64,AA">')
    assert build_docs.broken_links(tmp_path) == [
        "a.html loads d.png, which does not exist",
        "a.html loads https://x.y/z.js from the network",
        "a.html links to b.html#gone; the page has no such anchor",
        "a.html links to c.html, which does not exist",
    ]
