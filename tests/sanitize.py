"""`python -m tests.sanitize`: the tests of pump, hub and kit under AddressSanitizer and UndefinedBehaviorSanitizer.

The native code is built with both into a copy (docs/sanitizers.md), so nothing that is installed changes. It needs gcc.
"""

import os
import subprocess
import sys
import tempfile
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


def sanitize(selection: tuple[str, ...], mutant: native.Mutant | None = None) -> Verdict:
    """What the tests, and the sanitizers, say of the native code as it is, or with a mutant's lines in it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_copy(directory, mutant)
        build(directory, *FLAGS)
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
    mutant = None
    if claim is not None:
        mutant = next((one for one in native.MUTANTS if claim in one.claim), None)
        if mutant is None:
            raise click.UsageError(f"no mutant of the native code has {claim!r} in its claim")
    for run in (selection,) if selection else RUNS:
        verdict = sanitize(run, mutant)
        print(verdict.output, end="", flush=True)
        if verdict.failed:
            sys.exit(f"{' '.join(run)}: {verdict.by}")


if __name__ == "__main__":
    main()
