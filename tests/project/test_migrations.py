"""What `python -m tests.migrations` says of two runs, and that its page is about the programs that it runs."""

import pytest

from tests.migrations.comparing import Comparison, typical
from tests.migrations.table import PROGRAMS, Program
from tests.support.tree import TREE

PAGE = TREE / "docs/howto/programs.md"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
def test_page_has_each_program_in_the_version_that_is_run(program: Program) -> None:
    assert f"\n## {program.name}\n" in PAGE.read_text()
    assert f"\n{program.name} {program.version}, " in PAGE.read_text()


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        ({"one": "passed"}, {"one": "passed"}, []),
        ({"one": "passed", "two": "passed"}, {"one": "failed", "two": "skipped"}, ["one", "two"]),
        ({"one": "passed"}, {}, ["one"]),
        ({"one": "failed", "two": "skipped"}, {"one": "failed", "two": "failed"}, []),
    ],
)
def test_test_that_passes_with_pyzmq_alone_is_broken(
    before: dict[str, str], after: dict[str, str], broken: list[str]
) -> None:
    comparison = Comparison(Program("a program", "1.0", "a line"), "versions", (before, after), ({}, {}))
    assert comparison.broken == broken
    assert [line for line in comparison.lines() if "BROKEN" in line] == [f"\nBROKEN: {name}" for name in broken]


def test_figures_are_medians_or_else_every_value() -> None:
    samples: list[dict[str, float | str]] = [
        {"s": 0.5, "end": "never", "call": "raises"},
        {"s": 4.0, "end": 0.25, "call": "raises"},
    ]
    assert typical([*samples, {"s": 1.0, "end": "never", "call": "raises"}]) == {
        "s": 1.0,
        "end": "never; 0.25",
        "call": "raises",
    }
