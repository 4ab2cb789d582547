"""CONTRIBUTING.md and SECURITY.md name files, tests, sessions and commands that there are; the linters are one list."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.tree import TREE

PAGES = [TREE / "CONTRIBUTING.md", TREE / "SECURITY.md"]
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[.\w-]+(/[\w.-]+)+/?(::\w+)?|[.\w-]+\.(py|md|yaml)")
COMMAND = re.compile(r"(?:^|&& |`)\s*(\.venv/bin/[^`\n]+?)(?= && |`|$)", re.MULTILINE)

COMES_FROM = {"pip": "venv", "python": "venv"} | {name: name for name in ("pytest", "nox", "ruff", "pre-commit")}
"""The commands that the pages may call in a `.venv`, and the distribution that each comes from."""


def commands_of(page: Path) -> list[str]:
    """Every command of a `.venv` on a page, in blocks and in running text."""
    return COMMAND.findall(page.read_text())


def sessions() -> dict[str, ast.FunctionDef]:
    """The sessions of noxfile.py by name. It is read and not run: nox need not be installed where the tests are."""
    found = {}
    for node in ast.parse((TREE / "noxfile.py").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith("nox.session"):
                    named = [ast.literal_eval(keyword.value) for keyword in getattr(decorator, "keywords", [])]
                    found[named[0] if named else node.name] = node
    return found


def linters() -> list[tuple[str, ...]]:
    """The commands of nox's session `lint`."""
    for node in ast.parse((TREE / "noxfile.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LINTERS":
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    raise AssertionError("noxfile.py has no LINTERS")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    words = {word for code in CODE.findall(page.read_text()) for word in code.split()}
    words |= {word for command in commands_of(page) for word in command.split()}
    paths = {word.partition("::")[0] for word in words if PATH.fullmatch(word) and not word.startswith(".venv/")}
    assert paths
    assert [path for path in sorted(paths) if not (TREE / path).exists()] == []


def test_every_directory_of_tests_is_named() -> None:
    page = (TREE / "CONTRIBUTING.md").read_text()
    rooms = [path.parent.name for path in (TREE / "tests").glob("*/__init__.py")]
    assert "engine" in rooms
    assert [room for room in sorted(rooms) if f"`{room}/`" not in page and f"`tests/{room}/" not in page] == []


def test_every_test_that_a_page_names_exists() -> None:
    named = [pair for page in PAGES for pair in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())]
    assert named
    assert [test for file, test in named if f"def {test}(" not in (TREE / file).read_text()] == []


def test_every_session_that_is_named_exists_and_every_session_is_named() -> None:
    called = [
        name
        for command in commands_of(TREE / "CONTRIBUTING.md")
        if command.startswith(".venv/bin/nox -s ")
        for name in command.removeprefix(".venv/bin/nox -s ").partition(" -- ")[0].split()
    ]
    assert set(called) == set(sessions())


def test_ci_runs_every_session_but_the_tests_which_it_runs_as_the_readme_does() -> None:
    calls = re.findall(r'^"\$work/nox/bin/nox" -s (.+)$', (TREE / ".ci/run").read_text(), re.MULTILINE)
    assert sorted(name for call in calls for name in call.split()) == sorted({*sessions()} - {"tests"})


def test_every_command_that_a_page_calls_comes_with_what_it_has_installed() -> None:
    extras = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "pollbroker[test,lint,docs]" in extras["dev"]
    names = [name for extra in ("dev", "test", "lint") for name in extras[extra]]
    installed = {"venv", *(re.split(r"[>=<\[]", name)[0] for name in names)}
    commands = [command.split()[0].removeprefix(".venv/bin/") for page in PAGES for command in commands_of(page)]
    assert len(commands) > 10
    assert [name for name in commands if COMES_FROM.get(name) not in installed] == []


def test_every_module_that_a_page_runs_exists() -> None:
    modules = [module for page in PAGES for module in re.findall(r"python -m ([\w.]+)", page.read_text())]
    assert "pytest" in modules
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


def test_linters_before_a_commit_are_those_of_nox() -> None:
    entries = re.findall(r"^ *entry: \.venv/bin/(.+)$", (TREE / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    # A hook is given the files, and puts the format right instead of complaining of it.
    expected = [" ".join(part for part in linter if part not in (".", "--check")) for linter in linters()]
    assert [entry.removesuffix(" --force-exclude") for entry in entries] == expected


def test_hooks_fetch_nothing() -> None:
    repositories = re.findall(r"^ *- repo: (.+)$", (TREE / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert repositories == ["local"]
