"""`python -m tests.mutants`: in how many examples the kit finds each mutant, as a table in Markdown."""

import click

from tests.mutants.breaking import find
from tests.mutants.table import MUTANTS


@click.command()
@click.option("--seeds", default=20_000, show_default=True, help="How many to try at most.")
@click.option("--only", default="", help="Only those whose claim has this in it.")
def main(seeds: int, only: str) -> None:
    """Look for every mutant, and print what found it."""
    print("| mutant | found by | in examples |\n| --- | --- | --- |")
    for mutant in MUTANTS:
        if only in mutant.claim:
            found = find(mutant, seeds)
            by, examples = ("**not found**", seeds) if found is None else (found.invariant, found.examples)
            print(f"| {mutant.claim} | {by} | {examples} |", flush=True)


if __name__ == "__main__":
    main()
