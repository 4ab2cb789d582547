"""`python -m tests.wire --seconds 60`: fuzz the core of the wire, from another seed each time, or replay files."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.wire.building import Build, corpus


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long to fuzz.")
@click.option("--seed", type=int, help="Where to begin; it is printed.")
@click.option("--save", default="failure.bin", show_default=True, help="Where an input is saved that breaks a promise.")
@click.option("--checks", is_flag=True, help="Measure the bounds of memory, time and fairness instead.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, resolve_path=True))
def main(seconds: float, seed: int | None, save: str, checks: bool, files: tuple[str, ...]) -> None:
    """Fuzz, or replay FILES."""
    with tempfile.TemporaryDirectory() as name:
        program = Build(Path(name) / "build", sanitized=not checks).program
        arguments = ["--checks"]
        if files:
            arguments = list(files)
        elif not checks:
            chosen = seed if seed is not None else int(time.time())
            print(f"seed {chosen}", flush=True)
            arguments = [
                "--seconds",
                str(seconds),
                "--seed",
                str(chosen),
                "--save",
                str(Path(save).resolve()),
                *corpus(),
            ]
        sys.exit(subprocess.run([program, *arguments]).returncode)


if __name__ == "__main__":
    main()
