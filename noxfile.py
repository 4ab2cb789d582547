"""The checks that a change must pass: `nox -l` lists them, `nox -s lint` runs one, `.ci/run` runs all.

- `tests`, `wire`, `lint`, `docs`, `mutants`, `sanitizers`, `seeds` and `systemd` work in this tree, in its `.venv`, as
  README's second command makes it. They share one virtual environment to save installations. What is missing in it is
  installed.
- `demo`, `no-compiler` and `packaging` check what a user would get. Each works in a fresh copy of the tree as git sees
  it, with a virtual environment of its own, so nothing that was built or installed before can hide a fault.

Arguments after `--` are passed on: `nox -s tests -- tests/device/test_device.py`.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"  # each session chooses its own environment; see above
nox.options.sessions = ["lint", "tests"]
nox.options.stop_on_first_error = True

TOP: Final = Path(__file__).parent
VENV: Final = TOP / ".venv"

TOOLS: Final = {
    "test": ("pytest",),
    "lint": ("ruff", "mypy", "lint-imports", "nox"),
    "docs": ("sphinx-build",),
}
"""For each extra that a session needs, the commands that are there if it is installed."""

LINTERS: Final = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",))

OVER_THE_WIRE: Final = (
    "engine",
    "control",
    "broker",
    "behaviour",
    "opening",
    "patterns",
    "rpc",
    "embedding",
    "devices",
    "metrics",
    "cli",
    "daemon",
    "docs",
)
"""The directories of tests whose engines open ports in the tests' own process, so that the wire can serve them."""

FROM_SDIST: Final = ("tests/bench/test_pages.py", "tests/control/test_counts.py", "tests/docs", "tests/project")
"""The tests to run from an sdist, without the slow ones: those that read files of the tree. For the others an sdist
makes no difference. That it has every file is found out before, by a comparison."""

NO_NATIVE_PUMP: Final = "import pollbroker; e = pollbroker.Engine(); assert e.statistics().pump == 'python'; e.close()"


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests on all cores, or those that pytest's arguments after `--` choose."""
    session.run(*in_venv(session, "test", "python"), "-m", "pytest", *session.posargs, external=True)


@nox.session
def wire(session: nox.Session) -> None:
    """Run the tests of engines over ports of the wire, instead of libzmq's. These have one pump, and no waiter of their
    own, so that the native pump and the nested waiter are enough."""
    python = in_venv(session, "test", "python")
    tests = session.posargs or [f"tests/{directory}" for directory in OVER_THE_WIRE]
    options = ("--transport", "wire", "-k", "not python and not flat")
    session.run(*python, "-m", "pytest", *options, *tests, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check ruff's rules and format, the types (mypy), and the rules for imports (import-linter)."""
    for linter in LINTERS:
        session.run(*in_venv(session, "lint", *linter), external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site; a warning is an error (docs/index.md)."""
    python = in_venv(session, "docs", "python")
    session.run(*python, "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build/html", external=True)


@nox.session
def mutants(session: nox.Session) -> None:
    """Build each mutant of the native code, and check that a test finds it (docs/mutation.md). Takes many minutes."""
    python = in_venv(session, "test", "python")
    session.run(*python, "-m", "tests.mutants", "--native", *session.posargs, external=True)


@nox.session
def sanitizers(session: nox.Session) -> None:
    """Test the native code with AddressSanitizer and UndefinedBehaviorSanitizer (docs/sanitizers.md). Needs gcc."""
    session.run(*in_venv(session, "test", "python"), "-m", "tests.sanitize", *session.posargs, external=True)


@nox.session
def seeds(session: nox.Session) -> None:
    """Try 10,000 simulated schedules, on all cores, or what the arguments after `--` say (`pollbroker fuzz --help`)."""
    session.run(*in_venv(session, "test", "pollbroker"), "fuzz", *session.posargs, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the README's first command, exactly as it is printed there."""
    (command,) = re.findall(r"^.* && \.venv/bin/pollbroker demo$", (TOP / "README.md").read_text(), re.MULTILINE)
    with fresh_copy(session):
        session.run("bash", "-c", command, external=True)
        session.run(".venv/bin/pollbroker", "doctor", external=True)


@nox.session(name="no-compiler")
def no_compiler(session: nox.Session) -> None:
    """Install without a C compiler: the Python pump is used, and doctor says so."""
    with fresh_copy(session):
        session.run("python3", "-m", "venv", ".venv", external=True)
        session.run(".venv/bin/pip", "install", ".", env={"CC": "false"}, external=True)
        told = session.run(".venv/bin/pollbroker", "doctor", silent=True, external=True)
        print(told)
        if "python: " not in str(told):
            session.error("doctor does not say that the Python pump is used, and why")
        session.run(".venv/bin/python", "-c", NO_NATIVE_PUMP, external=True)


@nox.session
def packaging(session: nox.Session) -> None:
    """Make an sdist and a wheel. The sdist must have the files that git has, and tests must run from it."""
    with fresh_copy(session) as tree:
        expected = {name for name in files_of(tree) if Path(name).name != ".gitignore"}
        session.run("python3", "-m", "venv", ".venv", external=True)
        session.run(".venv/bin/pip", "install", "build", external=True)
        session.run(".venv/bin/python", "-m", "build", silent=True, external=True)  # nox shows the output if it fails
        if not list(tree.glob("dist/pollbroker-*-cp311-abi3-*.whl")):
            session.error(f"no wheel with the native pump: {sorted(path.name for path in tree.glob('dist/*'))}")
        (archive,) = tree.glob("dist/pollbroker-*.tar.gz")
        shutil.unpack_archive(archive, tree / "unpacked", filter="data")
        (sdist,) = (tree / "unpacked").iterdir()
        # PKG-INFO and egg-info are added by setuptools.
        held = {name for name in files_of(sdist) if not re.match(r"PKG-INFO$|pollbroker\.egg-info/", name)}
        if held != expected:
            session.error(f"the sdist does not hold what git holds: {sorted(held ^ expected)}: see MANIFEST.in")
        with session.chdir(sdist):
            session.run("python3", "-m", "venv", ".venv", external=True)
            session.run(".venv/bin/pip", "install", "-e", ".[test]", external=True)
            session.run(".venv/bin/python", "-m", "pytest", "-m", "not slow", *FROM_SDIST, external=True)


@nox.session
def systemd(session: nox.Session) -> None:
    """Run the units of deploy/ under a real systemd, in namespaces of this machine. It takes root, and Debian's python3
    with venv; without these the tests are skipped."""
    python = in_venv(session, "test", "python")[0]
    with tempfile.TemporaryDirectory() as wheels:
        session.run(python, "-m", "pip", "wheel", "--no-deps", "-w", wheels, ".", external=True)
        (wheel,) = Path(wheels).glob("*.whl")
        session.run(
            *(python, "-m", "pytest", "-n", "0", "tests/deploy/test_systemd.py", *session.posargs),
            env={"POLLBROKER_TEST_SYSTEMD": str(wheel)},
            external=True,
        )


def in_venv(session: nox.Session, extra: str, tool: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a tool in the tree's `.venv`. Make the `.venv` if it is missing, and install what it
    lacks."""
    if not (VENV / "bin/python").exists():
        session.run("python3", "-m", "venv", str(VENV), external=True)
    pip = str(VENV / "bin/pip")
    if not list(VENV.glob("lib/*/site-packages/__editable__*pollbroker*")):
        session.run(pip, "install", "-e", f".[{extra}]", external=True)
    if not all((VENV / "bin" / name).exists() for name in TOOLS[extra]):
        # The project itself is left out, because it would be built again.
        extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
        session.run(pip, "install", *extras[extra], external=True)
    return (str(VENV / "bin" / tool), *arguments)


@contextmanager
def fresh_copy(session: nox.Session) -> Iterator[Path]:
    """As a context: a copy of the tree as git sees it, in which the working directory is the copy."""
    listed = session.run(
        *("git", "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        silent=True,
        external=True,
    )
    with tempfile.TemporaryDirectory() as directory, session.chdir(directory):
        tree = Path(directory)
        for name in str(listed).rstrip("\0").split("\0"):
            if (TOP / name).exists():  # git also lists files whose deletion was not committed
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(TOP / name, tree / name)
        yield tree


def files_of(directory: Path) -> set[str]:
    """The files below a directory, by their paths relative to it."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
