"""Build the docs site without a network, with warnings as errors, and check its links.

    python -m tools.build_docs                   # docs/_build/html; runs the notebooks
    python -m tools.build_docs --no-notebooks    # without running them: their pages have no outputs

Links are checked within the site: every page, picture and anchor must exist, and no page may load
anything from another place. Links to other sites are not followed.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple
from urllib.parse import unquote, urlsplit

import tyro

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True)
class Build:
    """What to build."""

    out: Path = DOCS / "_build" / "html"
    """Folder of the site."""
    notebooks: bool = True
    """Run the notebooks."""


class _Page(HTMLParser):
    """The anchors of a page, and what it links to and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: Set[str] = set()
        self.links: List[str] = []
        self.loads: List[str] = []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        """Note an element."""
        found = {name: value for name, value in attrs if value}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if "href" in found:
            (self.links if tag == "a" else self.loads).append(found["href"])
        if "src" in found:
            self.loads.append(found["src"])


def broken_links(site: Path) -> List[str]:
    """Return the links of a built site that lead nowhere, and what it loads from elsewhere.

    Args:
        site: Folder of the site.

    Returns:
        A line for each, with the page and the target.
    """
    pages: Dict[Path, _Page] = {}
    for file in sorted(site.rglob("*.html")):
        if "_static" not in file.parts:
            pages[file] = _Page()
            pages[file].feed(file.read_text("utf-8"))
    broken = []
    for file, page in pages.items():
        name = file.relative_to(site)
        for target in page.loads:
            parts = urlsplit(target)
            if parts.netloc:
                broken.append(f"{name} loads {target} from the network")
            elif parts.scheme != "data" and not _exists(file, parts.path):
                broken.append(f"{name} loads {target}, which does not exist")
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchors = pages[place].anchors if place in pages else None
            if not place.exists():
                broken.append(f"{name} links to {target}, which does not exist")
            elif parts.fragment and anchors is not None and unquote(parts.fragment) not in anchors:
                broken.append(f"{name} links to {target}; the page has no such anchor")
    return broken


def _exists(page: Path, path: str) -> bool:
    """Return whether a path that a page names exists."""
    return (page.parent / unquote(path)).exists()


def build(options: Build) -> None:
    """Build the site and check its links.

    Args:
        options: What to build.

    Raises:
        SystemExit: If Sphinx warns or fails, or a link is broken.
    """
    out = options.out.resolve()
    if (out / ".buildinfo").is_file():
        # An earlier build: Sphinx would keep its removed pages, and links to them would seem good.
        shutil.rmtree(out)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    if not options.notebooks:
        # Without a kernel, a cell has no language either.
        command += ["-D", "nb_execution_mode=off"]
        command += ["-D", "suppress_warnings=myst-nb.lexer"]
    # The notebooks call this environment's se-zoo, with this checkout, and never ask the Hub.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(DOCS.parent)}
    environment["HF_HUB_OFFLINE"] = "1"
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm's, of no use to a reader
    doctrees = out.with_name(out.name + "_doctrees")
    done = subprocess.run([*command, "-d", str(doctrees), str(DOCS), str(out)], env=environment)
    if done.returncode:
        raise SystemExit("build_docs: Sphinx failed; what it printed says where.")
    if broken := broken_links(out):
        raise SystemExit("build_docs: " + "\n  ".join(["broken links:", *broken]))
    print(f"{out / 'index.html'}: {len(list(out.rglob('*.html')))} pages")


if __name__ == "__main__":
    build(tyro.cli(Build, description=__doc__))
