"""What a mutant of the native code is, and the files that they change."""

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """A source file with some of its lines replaced."""

    claim: str
    """What it does wrong."""
    path: str
    """The file, below `pollbroker/`."""
    edits: tuple[tuple[str, str], ...]
    """Lines (or parts of them) that stand in it once, and what stands in their place."""
    test: str = ""
    """The test that finds it, as pytest names it. It is run first and alone, because most others find nothing. Without
    it all are run, as they are when it passes."""


NATIVE: Final = "pump/native.pyx"
RECEIVING: Final = "pump/receiving.pxi"
SENDING: Final = "pump/sending.pxi"
HUB: Final = "pump/hub.pxi"
COLLECTOR: Final = "pump/collector.pxi"
TURNS: Final = "pump/turns.pxi"
