"""Configure Sphinx. `python -m tools.build_docs` builds the site and checks its links."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's se_zoo and tools, wherever Sphinx is started

from se_zoo.version import __version__  # noqa: E402
from tools.site_pages import link_within_site, write_generated_pages, write_llms_txt  # noqa: E402

project = "se_zoo"
author = "The se_zoo maintainers"
copyright = "The se_zoo maintainers"
version = release = __version__
smartquotes = False  # two hyphens begin an option

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "se_zoo"
html_sourcelink_suffix = ""  # _sources/explain.md: what llms.txt links to

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of a class in a list, not as entries of their own

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 600
nb_merge_streams = True


def escape_shapes(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list):
    """Escape the star in shapes such as (B, C, *grid), which is no markup."""
    lines[:] = [re.sub(r", \*(?=\w)", r", \\*", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect what this project adds: pages made of other files, their links, llms.txt."""
    docs = Path(app.srcdir)
    write_generated_pages(docs)

    def rewrite(app: Sphinx, name: str, source: list) -> None:
        path = Path(app.env.doc2path(name))
        if docs / "generated" not in path.parents:
            source[0] = link_within_site(source[0], path.parent, docs)

    app.connect("source-read", rewrite)
    app.connect("autodoc-process-docstring", escape_shapes)
    app.connect("build-finished", write_llms_txt)
