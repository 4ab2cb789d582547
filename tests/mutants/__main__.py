"""`python -m tests.mutants`: in how many examples the kit finds each mutant, as a table in Markdown.

`python -m tests.mutants --native`: which test finds each mutant of the native code, likewise.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.mutants import native
from tests.mutants.breaking import find
from tests.mutants.building import PARTS, Verdict, build, make_copy, run_tests
from tests.mutants.table import MUTANTS


@click.command()
@click.option("--seeds", default=20_000, show_default=True, help="How many to try at most.")
@click.option("--only", default="", help="Only those whose claim has this in it.")
@click.option("--native", "in_native", is_flag=True, help="Those of the native code: each is built, and tested.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="With --native: how many at once.")
def main(seeds: int, only: str, in_native: bool, jobs: int) -> None:
    """Look for every mutant, and print what found it. The exit code is 1 if one was not found."""
    missed = look_natively(only, jobs) if in_native else look(only, seeds)
    if missed:
        sys.exit(f"{missed} not found")


def look(only: str, seeds: int) -> int:
    """Look with the kit, one seed after the other; how many were not found."""
    print("| mutant | found by | in examples |\n| --- | --- | --- |")
    missed = 0
    for mutant in MUTANTS:
        if only in mutant.claim:
            found = find(mutant, seeds)
            by, examples = ("**not found**", seeds) if found is None else (found.invariant, found.examples)
            missed += found is None
            print(f"| {mutant.claim} | {by} | {examples} |", flush=True)
    return missed


def look_natively(only: str, jobs: int) -> int:
    """Build each and run the tests; how many were not found. First the tests must pass where nothing was changed."""
    sound = judge(None)
    if sound.failed:
        sys.exit(f"the tests fail with nothing changed: {sound.by}\n{sound.output}")
    chosen = [mutant for mutant in native.MUTANTS if only in mutant.claim]
    print("| mutant | in | found by |\n| --- | --- | --- |")
    missed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for mutant, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
            missed += not verdict.failed
            by = verdict.by if verdict.failed else "**not found**"
            print(f"| {mutant.claim} | `{Path(mutant.path).name}` | {by} |", flush=True)
    return missed


def judge(mutant: native.Mutant | None, selection: tuple[str, ...] = PARTS) -> Verdict:
    """What the tests say of a mutant. Those of the Python twin cannot say anything of native code."""
    options = ["--timeout=60"]
    if mutant is not None and mutant.path.endswith((".pyx", ".pxi")):
        options += ["-k", "not python"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_copy(directory, *([] if mutant is None else [mutant]))
        build(directory, "-O0")
        if mutant is not None and mutant.test:
            verdict = run_tests(directory, (mutant.test,), *options)
            if verdict.failed:
                return verdict
        return run_tests(directory, selection, *options)


if __name__ == "__main__":
    main()
