"""Putting a mutant in place, and looking for it with the kit."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from typing import Any, NamedTuple

from pollbroker.testing import InvariantViolation, check_seed
from tests.mutants.table import Mutant


class Found(NamedTuple):
    """How a mutant was found."""

    examples: int
    invariant: str


def broken(function: Callable[..., Any], edits: tuple[tuple[str, str], ...], claim: str) -> Any:
    """A function made of another's source with some lines replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        old, new = (_dedent(text) for text in (old, new))
        if source.count(old) != 1:
            raise ValueError(
                f"mutant {claim!r}: expected {old!r} once in {function.__qualname__}, not {source.count(old)} times"
            )
        source = source.replace(old, new)
    made: dict[str, Any] = {}
    exec(compile(source, f"<{claim}>", "exec"), function.__globals__, made)
    return made[function.__name__]


def _dedent(text: str) -> str:
    """As methods are dedented: one level less."""
    return "".join(line.removeprefix("    ") for line in text.splitlines(keepends=True))


@contextmanager
def in_place(mutant: Mutant) -> Iterator[None]:
    """Have the engine run with a mutant."""
    module, _, name = mutant.target.partition(":")
    class_name, _, method = name.rpartition(".")
    owner = getattr(import_module(module), class_name) if class_name else import_module(module)
    original = inspect.getattr_static(owner, method)
    function = original.__func__ if isinstance(original, staticmethod) else original
    setattr(owner, method, broken(function, mutant.edits, mutant.claim))
    try:
        yield
    finally:
        setattr(owner, method, original)


def find(mutant: Mutant, most_seeds: int, first: int = 0) -> Found | None:
    """Look for a mutant with one seed after the other, each with the mutant's devices in turn; None if so many seeds do
    not find it. The seeds before `first` are tried last."""
    seeds = (*range(first, most_seeds), *range(first))
    with in_place(mutant):
        for example, (seed, device) in enumerate(product(seeds, mutant.devices), start=1):
            try:
                check_seed(seed, device)
            except InvariantViolation as violation:
                return Found(example, violation.invariant)
            except Exception as error:  # noqa: BLE001 - a broken engine may raise anything
                return Found(example, type(error).__name__)
    return None
