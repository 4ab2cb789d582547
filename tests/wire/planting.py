"""A fault that is planted in the core of the wire, and how it is to be found."""

from typing import NamedTuple


class MutantError(Exception):
    """A mutant that no longer applies."""


class Mutant(NamedTuple):
    """A file with a line replaced."""

    claim: str
    """What it does wrong."""
    file: str
    old: str
    """A line, or a part of some lines, that stands in the file once."""
    new: str
    check: str = ""
    """The check that finds it; the fuzzer, if there is none."""

    def applied_to(self, text: str) -> str:
        """The text of the file with the fault in it."""
        if text.count(self.old) != 1:
            raise MutantError(
                f"{self.claim}: expected {self.old!r} once in {self.file}, not {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)
