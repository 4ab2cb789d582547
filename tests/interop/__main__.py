"""`python -m tests.interop [NAME]...`: run programs of others with ours, and say what was seen."""

import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import click

from tests.interop.building import build_c_programs, make_environment
from tests.interop.places import Place
from tests.interop.table import SOURCES, Check, Source


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(sorted(SOURCES)))
@click.option("--guide", envvar="POLLBROKER_GUIDE", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--czmq", envvar="POLLBROKER_CZMQ", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--only", help="Run only the checks that have this in their name.", default="")
def main(names: tuple[str, ...], guide: Path | None, czmq: Path | None, only: str) -> None:
    """Run the programs NAME..., or all of those for which there is a checkout.

    The exit code is 1 if one that is to work does not, or the other way round."""
    guide, czmq = guide and guide.resolve(), czmq and czmq.resolve()
    there = {"guide": guide is not None, "c": guide is not None and czmq is not None, "pypi": True}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="pollbroker-interop-") as made:
        directory = Path(made)
        for name in names or SOURCES:
            source = SOURCES[name]
            if not there[source.needs]:
                print(f"{name}: left out; expected --guide and, for C, --czmq", file=sys.stderr)
                wrong += bool(names)
                continue
            print(f"\n## {source.title}\n\n| theirs | ours | seen |\n| --- | --- | --- |", flush=True)
            for check, line, as_expected in outcomes(source, directory, guide, czmq, only):
                print(f"| {check.theirs} | {check.ours} | {line} |", flush=True)
                wrong += not as_expected
    sys.exit(f"{wrong} are not as expected" if wrong else 0)


def outcomes(
    source: Source, directory: Path, guide: Path | None, czmq: Path | None, only: str
) -> Iterator[tuple[Check, str, bool]]:
    """Each check, what is to be printed of it, and whether it is as expected."""
    built = environment = None
    if source.needs == "c":
        assert guide is not None
        assert czmq is not None
        built = build_c_programs(guide, czmq, directory)
    elif source.needs == "pypi":
        environment = make_environment(directory, source.requirements)
    for check in source.checks:
        if only not in f"{check.theirs} {check.ours}":
            continue
        with Place(directory / "place", guide, built, environment) as place:
            try:
                seen = check.run(place)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the others are to be run
                if not check.why_not:
                    traceback.print_exc()
                yield check, f"does not work: {check.why_not or repr(error)[:100]}", bool(check.why_not)
            else:
                yield check, seen, not check.why_not


if __name__ == "__main__":
    main()
