"""`python -m tests.wire --seconds 60`: fuzz the core of the wire, from another seed each time, or replay files."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.wire.building import CORPUS, GUIDED, MEASURED, SANITIZED, Build, corpus

INPUT_MOST_S = 86_400
"""An input may be slow on a machine that has other things to do. How long one may take is measured by `--checks`."""


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long to fuzz.")
@click.option("--seed", type=int, help="Where to begin; it is printed.")
@click.option("--save", default="failure.bin", show_default=True, help="Where an input is saved that breaks a promise.")
@click.option(
    "--guided",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    metavar="DIRECTORY",
    help="Let clang's libFuzzer make the inputs, and keep those that reach new code here for the next time.",
)
@click.option(
    "--without-memory",
    type=click.IntRange(1),
    metavar="N",
    help="Replay FILES, by default those of the corpus, so that one allocation fails: the first, the second, up to the "
    "N-th.",
)
@click.option("--checks", is_flag=True, help="Measure the bounds of memory, time and fairness instead.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, resolve_path=True))
def main(
    seconds: float,
    seed: int | None,
    save: str,
    guided: Path | None,
    without_memory: int | None,
    checks: bool,
    files: tuple[str, ...],
) -> None:
    """Fuzz, or replay FILES."""
    flags = MEASURED if checks else GUIDED if guided else SANITIZED
    chosen = seed if seed is not None else int(time.time())
    if without_memory:
        saved = str(Path(save).resolve())
        arguments = ["--without-memory", str(without_memory), "--save", saved, *(files or corpus())]
    elif files:
        arguments = list(files)
    elif checks:
        arguments = ["--checks"]
    elif guided:
        guided.mkdir(parents=True, exist_ok=True)
        arguments = [
            f"-max_total_time={seconds:.0f}",
            f"-seed={chosen}",
            f"-exact_artifact_path={Path(save).resolve()}",
            f"-timeout={INPUT_MOST_S}",
            "-max_len=4096",
            "-print_final_stats=1",
            str(guided),
            str(CORPUS),
        ]
    else:
        print(f"seed {chosen}", flush=True)
        arguments = ["--seconds", str(seconds), "--seed", str(chosen), "--save", str(Path(save).resolve()), *corpus()]
    with tempfile.TemporaryDirectory() as name:
        sys.exit(subprocess.run([Build(Path(name) / "build", flags).program, *arguments]).returncode)


if __name__ == "__main__":
    main()
