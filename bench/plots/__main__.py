"""`python -m bench.plots FILE`: draw the plots of a run again, beside its file."""

from __future__ import annotations

from pathlib import Path

import click

from bench.plots.write import MatplotlibMissingError, write_plots
from bench.results import read_results


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="By default beside the file.")
def main(file: Path, output: Path | None) -> None:
    """Draw the plots for which the results in FILE have data."""
    directory = output or file.parent
    directory.mkdir(parents=True, exist_ok=True)
    try:
        written = write_plots(read_results(file), directory)
    except MatplotlibMissingError as error:
        raise click.ClickException(str(error)) from error
    for path in written:
        click.echo(path)


if __name__ == "__main__":
    main(prog_name="python -m bench.plots")
