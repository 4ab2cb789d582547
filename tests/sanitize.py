"""`python -m tests.sanitize`: the tests of pump, hub and kit under AddressSanitizer and UndefinedBehaviorSanitizer.

The native code is built with both into a copy (docs/sanitizers.md), so nothing that is installed changes. It needs gcc.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from tests.mutants import native
from tests.mutants.building import PARTS, BuildError, Verdict, build, make_copy, run_tests

FLAGS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-fno-omit-frame-pointer", "-g", "-O1")

RUNS: Final = (
    # Memory that was freed is kept by the sanitizer for a while, so that its use is found: there is nothing to learn
    # from how the process grows.
    (*PARTS, "-k", "not python and not memory_does_not_grow"),
    ("tests/kit/test_promises.py", "-k", "real_sockets or columns or TestQueueOnTheNativePump or served"),
)
"""What is run, a process each: the tests that call the native code directly, and the kit's with the native pump."""

OPTIONS: Final = {
    "ASAN_OPTIONS": ":".join(
        (
            # Whatever Python keeps until the process ends would count as lost. What the pump keeps is counted by
            # tests/native instead, frame by frame.
            "detect_leaks=0",
            "abort_on_error=0",
            "exitcode=66",
            "allocator_may_return_null=1",
            "detect_stack_use_after_return=1",
            "strict_string_checks=1",
        )
    ),
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "PYTHONMALLOC": "malloc",  # else Python's own allocator hands out pieces of what the sanitizer knows as one
}


@contextmanager
def sanitized_copy(*mutants: native.Mutant) -> Iterator[Path]:
    """As a context: a copy in which the native code is built with both, as it is or with the lines of mutants in it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_copy(directory, *mutants)
        build(directory, *FLAGS)
        yield directory


def sanitize(directory: Path, selection: tuple[str, ...]) -> Verdict:
    """What the tests, and the sanitizers, say of such a copy."""
    environment = OPTIONS | {"LD_PRELOAD": preloaded()}
    return run_tests(directory, selection, "--timeout=600", "-s", environment=environment)


def preloaded() -> str:
    """The sanitizer's library, which must be the first to be loaded, and that of C++, in whose place it puts its own
    functions when it is loaded: libzmq needs it."""
    found = []
    for library in ("libasan.so", "libstdc++.so"):
        command = [*os.environ.get("CC", "gcc").split(), f"-print-file-name={library}"]
        path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        if not path.is_absolute():
            raise BuildError(f"{command[0]} has no {library}: install gcc with its sanitizers")
        found.append(str(path.resolve()))
    return " ".join(found)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--mutant", "claim", help="Plant the mutant of the native code whose claim has this in it.")
@click.argument("selection", nargs=-1)
def main(claim: str | None, selection: tuple[str, ...]) -> None:
    """Run the tests of pump, hub and kit, or a SELECTION of tests as pytest understands it, under the sanitizers."""
    mutants = [] if claim is None else [one for one in native.MUTANTS if claim in one.claim][:1]
    if claim is not None and not mutants:
        raise click.UsageError(f"no mutant of the native code has {claim!r} in its claim")
    with sanitized_copy(*mutants) as directory:
        for run in (selection,) if selection else RUNS:
            verdict = sanitize(directory, run)
            print(verdict.output, end="", flush=True)
            if verdict.failed:
                sys.exit(f"{' '.join(run)}: {verdict.by}")


if __name__ == "__main__":
    main()
