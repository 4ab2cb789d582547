"""That the page on programs of others has what `python -m tests.interop` runs."""

import pytest

from tests.interop.table import SOURCES, Source
from tests.support.tree import TREE

PAGE = TREE / "docs/patterns/interoperability.md"


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_page_has_a_row_for_each_check(source: Source) -> None:
    _, _, section = PAGE.read_text().partition(f"\n## {source.title}\n")
    rows = [row for row in section.partition("\n## ")[0].splitlines() if row.startswith("| ")][2:]
    expected = [f"| {check.theirs} | {check.ours} | " for check in source.checks]
    assert [row for row, start in zip(rows, expected, strict=True) if not row.startswith(start)] == []
    for row, check in zip(rows, source.checks, strict=True):
        assert ("does not work: " in row) == bool(check.why_not)
        assert check.why_not in row
