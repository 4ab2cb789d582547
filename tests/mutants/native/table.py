"""All native mutants, in the order in which they are looked for."""

from typing import Final

from tests.mutants.native.elsewhere import OTHER_MUTANTS
from tests.mutants.native.hub import HUB_MUTANTS
from tests.mutants.native.mutant import Mutant
from tests.mutants.native.receiving import RECEIVING_MUTANTS
from tests.mutants.native.sending import SENDING_MUTANTS
from tests.mutants.native.turns import TURN_MUTANTS

MUTANTS: Final[tuple[Mutant, ...]] = (
    *RECEIVING_MUTANTS,
    *SENDING_MUTANTS,
    *HUB_MUTANTS,
    *TURN_MUTANTS,
    *OTHER_MUTANTS,
)
