"""The command line: the only part of pollbroker that prints, parses argv or exits."""

from pollbroker.cli.commands import main

__all__ = ["main"]
