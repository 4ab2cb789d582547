"""The table of native mutants, and of those that the tests must find where the kit does not look.

A mutant replaces some lines of one source file. When the lines are no longer in it, the mutant says so: then it is to
be written anew, or struck out.
"""

from tests.mutants.native.mutant import HUB, Mutant
from tests.mutants.native.planted import FREED_TWICE, OVERFLOW, READ_AFTER_CLOSE
from tests.mutants.native.table import MUTANTS

__all__ = ["FREED_TWICE", "HUB", "MUTANTS", "OVERFLOW", "READ_AFTER_CLOSE", "Mutant"]
