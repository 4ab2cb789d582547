"""What is built for others: the sdist, the wheels with the native pump and without it, and what they say."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

import pollbroker
from tests.support.tree import TREE

DIRECTORIES = (".ci", "bench", "deploy", "docs", "examples", "pollbroker", "tests")
FILES = (
    ".containerignore",
    ".pre-commit-config.yaml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "SECURITY.md",
    "noxfile.py",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
"""Beside these, git keeps what only a clone needs: `.gitignore`."""

MADE = ("__pycache__", "*.py[co]", "*.so", "native.c", ".gitignore", "_build")
"""What .gitignore names, where it lies in `DIRECTORIES`."""

SHOWN_PICTURES = {
    Path(picture).name
    for page in (TREE / "README.md", *TREE.glob("docs/**/*.md"), *TREE.glob("bench/*.md"))
    for picture in re.findall(r"bench/results/[\w.-]+\.png", page.read_text())
}
KEPT_RESULTS = {"latest.json", "latest.md", *SHOWN_PICTURES}
"""What git keeps of the bench's results: those of record, and the pictures that pages show."""

RESULTS_IGNORED = TREE / "bench/results/.gitignore"

DEADLINE_S = 300

FREE_THREADED = "import sysconfig; sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1"
"""What setuptools asks to know a free-threaded Python."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A fresh copy of the tree, without what was built or measured in it."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in DIRECTORIES:
        shutil.copytree(TREE / name, copy / name, ignore=shutil.ignore_patterns(*MADE))
    for path in (copy / "bench/results").iterdir():
        if path.name not in KEPT_RESULTS:
            path.unlink()
    for name in FILES:
        shutil.copy(TREE / name, copy / name)
    return copy


def build(tree: Path, hook: str, before: str = "", environment: Mapping[str, str] | None = None) -> Path:
    """What the build backend makes of the tree in a process of its own: `hook` is build_sdist or build_wheel."""
    output = tree.parent / "dist"
    code = f"{before}\nfrom setuptools import build_meta\nbuild_meta.{hook}({str(output)!r})"
    # Warnings are not errors here: those of setuptools are about setuptools.
    told = {**os.environ, "PYTHONWARNINGS": "default", **(environment or {})}
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, cwd=tree, env=told, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (path,) = output.iterdir()
    return path


def tags_of(wheel: Path) -> list[str]:
    """What the wheel itself says that it can be installed on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        lines = archive.read(name).decode().splitlines()
    return [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]


def files_of(wheel: Path) -> set[str]:
    """What a wheel holds for Python."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name and ".data/" not in name}


def python_files() -> set[str]:
    """The files in Python, and those of the status page: what every wheel holds, whatever could be built."""
    package = TREE / "pollbroker"
    kinds = ("*.py", "*.pyi", "py.typed", "*.html", "*.css", "*.js")
    files = (path for kind in kinds for path in package.rglob(kind))
    return {str(path.relative_to(TREE)) for path in files}


def test_sdist_holds_every_file_of_the_tree(tree: Path) -> None:
    expected = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    with tarfile.open(build(tree, "build_sdist")) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert "pollbroker/pump/hub.pxi" in expected
    assert "tests/conftest.py" in expected
    assert expected <= held, f"missing: {sorted(expected - held)}"
    made = {name for name in held - expected if not name.startswith("pollbroker.egg-info/")}
    assert made <= {"PKG-INFO"}


def test_every_picture_that_a_page_shows_is_there() -> None:
    assert SHOWN_PICTURES
    assert [name for name in sorted(SHOWN_PICTURES) if not (TREE / "bench/results" / name).is_file()] == []


@pytest.mark.skipif(not RESULTS_IGNORED.exists(), reason="only a clone has a .gitignore")
def test_git_keeps_the_results_of_record_and_the_pictures_that_pages_show() -> None:
    kept = {line.removeprefix("!") for line in RESULTS_IGNORED.read_text().splitlines() if line.startswith("!")}
    assert kept - {".gitignore"} == KEPT_RESULTS


def test_wheel_of_a_free_threaded_python_is_pure(tree: Path) -> None:
    wheel = build(tree, "build_wheel", before=FREE_THREADED)
    assert tags_of(wheel) == ["py3-none-any"]
    assert files_of(wheel) == python_files()
    with zipfile.ZipFile(wheel) as archive:
        outside = [name.partition(".data/")[2] for name in archive.namelist() if ".data/" in name]
    assert outside == ["data/share/man/man1/pollbroker.1"]


@pytest.mark.slow
def test_wheel_without_a_compiler_is_pure(tree: Path) -> None:
    wheel = build(tree, "build_wheel", environment={"CC": "false"})
    assert tags_of(wheel) == ["py3-none-any"]
    assert files_of(wheel) == python_files()


@pytest.mark.slow
def test_wheel_has_no_module_that_an_earlier_build_made_of_other_sources(tree: Path) -> None:
    directory = tree / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/pollbroker"
    for part in ("pump", "wire"):
        module = directory / part / "native.abi3.so"
        module.parent.mkdir(parents=True)
        module.touch()
        os.utime(module, (0, 0))
    wheel = build(tree, "build_wheel", environment={"CC": "false"})
    assert tags_of(wheel) == ["py3-none-any"]
    assert files_of(wheel) == python_files()


@pytest.mark.slow
def test_wheel_with_a_compiler_serves_every_cpython_from_3_11_on(tree: Path) -> None:
    wheel = build(tree, "build_wheel", environment={"CFLAGS": "-O0"})  # what is asked here is not how fast it is
    assert all(tag.startswith("cp311-abi3-") for tag in tags_of(wheel))
    assert sorted(file.partition(".")[0] for file in files_of(wheel) - python_files()) == [
        "pollbroker/pump/native",
        "pollbroker/wire/native",
    ]


def test_version_is_the_installed_one() -> None:
    assert metadata.version("pollbroker") == pollbroker.__version__


def test_project_says_where_to_find_its_pages() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    assert {"Homepage", "Repository", "Documentation", "Changelog", "Issues"} <= set(project["urls"])
    repository = project["urls"]["Repository"]
    assert all(address.startswith(repository) for address in project["urls"].values())
    assert project["urls"]["Changelog"] == f"{repository}/blob/main/CHANGELOG.md"
