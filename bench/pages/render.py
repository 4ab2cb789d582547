"""Makes the pages from the results of record and from their templates, which are in this directory.

A template holds the prose, and calls `Facts` for each figure. So a page has no figure that was not measured. A test
checks that the pages are up to date with the results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import jinja2

from bench.child import CHECKOUT
from bench.pages.facts import Facts
from bench.results import Results, read_results

TEMPLATES = Path(__file__).parent
RECORD = CHECKOUT / "bench/results/latest.json"
COMMAND = "python -m bench.pages"

# The lines in a page between which its made part is.
BEGIN, END = f"<!-- made by {COMMAND} from bench/pages/{{template}} -->", "<!-- made until here -->"

PAGES: Mapping[str, str] = {"README.md": "speed.md", "docs/performance.md": "performance.md"}
"""Each page with its template."""


def render_pages(results: Results, directory: Path = CHECKOUT) -> dict[Path, str]:
    """Return the text of every page, with the figures of `results`. The text around the made part is left as it is."""
    return {directory / page: _render(results, directory / page, template) for page, template in PAGES.items()}


def write_pages(results: Results, directory: Path = CHECKOUT) -> list[Path]:
    """Write the pages. Return those that have changed."""
    pages = render_pages(results, directory)  # all of them, before the first is written
    changed = [page for page, text in pages.items() if page.read_text() != text]
    for page in changed:
        page.write_text(pages[page])
    return changed


def record() -> Results:
    """The results of record."""
    return read_results(RECORD)


def _render(results: Results, page: Path, template: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the text is Markdown, and comes from files of this repository
    )
    made = environment.get_template(template).render(Facts(results).names())
    begin = BEGIN.format(template=template)
    between = re.compile(f"^{re.escape(begin)}\n.*?^{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
    text, found = between.subn(lambda _: f"{begin}\n{made}{END}\n", page.read_text())
    if found != 1:
        raise ValueError(f"{page}: expected once: {begin}, and after it: {END}")
    return text
