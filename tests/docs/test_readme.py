"""Links in the pages lead somewhere, and those of the README also where an index shows it away from its repository."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.tree import TREE

README = TREE / "README.md"
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "bench/*.md", "examples/*.md") for path in TREE.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
REFERENCE = re.compile(r"\[([^\]\n]+)\](?![\[(])")
DEFINITION = re.compile(r"^\[([^\]]+)\]: \S+$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def without_code(page: str) -> str:
    """The page without what is shown as it stands: brackets there are no links."""
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", page, flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> list[str]:
    """Where the links and pictures of a page lead to."""
    return [inline or defined for inline, defined in LINK.findall(without_code(page.read_text()))]


def blob() -> str:
    """Where the files of the repository are shown."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    return f"{project['urls']['Repository']}/blob/main/"


def anchors_of(page: Path) -> set[str]:
    """The headings of a page as a link names them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page.read_text())}


def test_readme_has_no_link_that_needs_its_repository() -> None:
    links = links_of(README)
    assert len(links) > 5
    assert [link for link in links if not link.startswith("https://")] == []


def test_links_of_the_readme_into_its_repository_name_files_that_exist() -> None:
    inside = [link.removeprefix(blob()) for link in links_of(README) if link.startswith(blob())]
    assert len(inside) > 5
    assert [name for name in inside if not (TREE / name).is_file()] == []


def test_every_reference_of_the_readme_is_defined_and_every_definition_used() -> None:
    page = without_code(README.read_text())
    defined = set(DEFINITION.findall(page))
    assert set(REFERENCE.findall(DEFINITION.sub("", page))) == defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        name, _, anchor = link.partition("#")
        if link.startswith(("https://", "http://")):
            continue
        target = page if not name else page.parent / name
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name}: {link}"
