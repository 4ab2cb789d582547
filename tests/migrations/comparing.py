"""Running a program as it is and on pollbroker's devices, and what is printed about both."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from xml.etree import ElementTree

from tests.migrations.environments import DEADLINE_S, Environment
from tests.migrations.table import Program

Outcomes: TypeAlias = Mapping[str, str]
"""What became of each test: `passed`, `failed` (or an error), or `skipped`."""
Figures: TypeAlias = Mapping[str, float | str]
"""What the traffic has measured, by what it is."""

TRAFFIC: Final = "tests.migrations.traffic"
TEST_DEADLINE_S: Final = 180
"""How long one test may take."""

VERSIONS: Final = "import platform, zmq; print(f'Python {platform.python_version()}, pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}')"  # fmt: skip  # noqa: E501


@dataclass(frozen=True)
class Comparison:
    """One program, with pyzmq's devices and with pollbroker's."""

    program: Program
    versions: str
    tests: tuple[Outcomes, Outcomes]
    figures: tuple[Figures, Figures]

    @property
    def broken(self) -> list[str]:
        """The tests that pass with pyzmq's devices, and not with pollbroker's."""
        before, after = self.tests
        return [name for name, outcome in before.items() if outcome == "passed" and after.get(name) != "passed"]

    def lines(self) -> Iterator[str]:
        """What is to be printed, in Markdown."""
        yield f"## {self.program.name} {self.program.version}"
        yield f"\n`{self.program.line}`\n\n{self.versions}\n"
        yield "| | pyzmq | pollbroker |\n| --- | --- | --- |"
        if self.program.tests:
            yield f"| its own tests | {' | '.join(map(_describe_outcomes, self.tests))} |"
        before, after = self.figures
        for name, figure in before.items():
            yield f"| {name} | {_describe_figure(figure)} | {_describe_figure(after[name])} |"
        for name in self.broken:
            yield f"\nBROKEN: {name}"


def compare(environment: Environment, program: Program, rounds: int) -> Comparison:
    """Run the program's tests both ways, then its traffic both ways in turn, so many times."""
    versions = _run(environment, environment.directory, "-c", VERSIONS, patched=False).stdout.strip()
    tests = [_run_tests(environment, program, patched=patched) for patched in (False, True)] if program.tests else []
    samples: tuple[list[Figures], list[Figures]] = ([], [])
    for _ in range(rounds):
        for patched in (False, True):
            samples[patched].append(_run_traffic(environment, program, patched=patched))
    without_tests: Outcomes = {}
    before, after = tests or (without_tests, without_tests)
    return Comparison(program, versions, (before, after), (typical(samples[False]), typical(samples[True])))


def _run(
    environment: Environment, directory: Path, *python_arguments: str, patched: bool
) -> subprocess.CompletedProcess[str]:
    """Run Python there, and end what it leaves behind: a test of others may, if it fails."""
    command = environment.command(*python_arguments, patched=patched)
    stdout, stderr = (environment.directory / name for name in ("stdout.txt", "stderr.txt"))
    with stdout.open("w") as out, stderr.open("w") as err:  # not pipes, which what is left behind would keep open
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment.variables(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(DEADLINE_S)
        finally:
            with suppress(ProcessLookupError):  # nothing was left behind
                os.killpg(process.pid, signal.SIGKILL)
            end = environment.command("-m", f"{TRAFFIC}.ending", patched=False)
            subprocess.run(end, cwd=environment.directory, stdin=subprocess.DEVNULL, timeout=DEADLINE_S, check=True)
    return subprocess.CompletedProcess(command, code, stdout.read_text(), stderr.read_text())


def _run_tests(environment: Environment, program: Program, *, patched: bool) -> Outcomes:
    report = environment.directory / f"report-{patched}.xml"
    options = ("-q", "-p", "no:cacheprovider", f"--timeout={TEST_DEADLINE_S}", f"--junit-xml={report}")
    begun_s = time.monotonic()
    done = _run(environment, environment.tests, "-m", "pytest", *options, *program.tests, patched=patched)
    _say(f"{program.name}: tests, {'pollbroker' if patched else 'pyzmq'}: {time.monotonic() - begun_s:.0f} s")
    if not report.exists():
        sys.exit(f"{program.name}: pytest wrote no report\n{done.stdout}{done.stderr}")
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        parts = {part.tag for part in case}
        outcome = "failed" if parts & {"failure", "error"} else "skipped" if "skipped" in parts else "passed"
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return outcomes


def _run_traffic(environment: Environment, program: Program, *, patched: bool) -> Figures:
    module = f"{TRAFFIC}.{program.name}"
    done = _run(environment, environment.directory, "-m", module, patched=patched)
    if done.returncode != 0:
        sys.exit(f"{program.name}: the traffic failed\n{done.stdout}{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    _say(f"{program.name}: traffic, {'pollbroker' if patched else 'pyzmq'}: {figures}")
    return figures


def typical(samples: list[Figures]) -> Figures:
    """The median of each number. If a figure was not a number each time, every value that came."""
    by_name: dict[str, list[float | str]] = defaultdict(list)
    for figures in samples:
        for name, figure in figures.items():
            by_name[name].append(figure)
    typical: dict[str, float | str] = {}
    for name, values in by_name.items():
        numbers = [value for value in values if not isinstance(value, str)]
        every = dict.fromkeys(map(_describe_figure, values))
        typical[name] = statistics.median(numbers) if len(numbers) == len(values) else "; ".join(every)
    return typical


def _describe_outcomes(outcomes: Outcomes) -> str:
    counts = {kind: sum(one == kind for one in outcomes.values()) for kind in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _describe_figure(figure: float | str) -> str:
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if figure >= 100 or figure == int(figure) else f"{figure:.2g}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
