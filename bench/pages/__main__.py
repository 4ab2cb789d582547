"""`python -m bench.pages`: put the figures of the results of record into the pages."""

from __future__ import annotations

import click

from bench.pages.facts import NotMeasuredError
from bench.pages.render import RECORD, record, write_pages


@click.command()
def main() -> None:
    """Write README's section on speed and docs/performance.md again, with the figures of bench/results/latest.json."""
    try:
        changed = write_pages(record())
    except NotMeasuredError as error:
        raise click.ClickException(str(error)) from error
    for page in changed:
        click.echo(page)
    if not changed:
        click.echo(f"every page has the figures of {RECORD}")


if __name__ == "__main__":
    main(prog_name="python -m bench.pages")
