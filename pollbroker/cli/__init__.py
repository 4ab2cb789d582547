"""The command line: the only part of pollbroker that prints, parses argv or exits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pollbroker.cli.commands import main

__all__ = ["main"]


def __getattr__(name: str) -> object:
    """Import the commands when they are asked for. The demo's dozen peers are below this package and need none."""
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pollbroker.cli.commands import main

    return main
