"""The environments that a scenario can run in: simulated sockets, real inproc sockets with either pump, and
simulated streams for ports of the wire.

In all of them the engine is the one that ships. Only the sockets or streams, the poller and the clock that it is given
are different. An environment has one thread, and nothing happens in it that the kit does not bring about, so a run can
be repeated exactly.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from pollbroker.errors import ConfigError, did_you_mean
from pollbroker.testing.environments.environment import Environment
from pollbroker.testing.environments.inproc import InprocEnvironment, shut_down
from pollbroker.testing.environments.simulated import SimulatedEnvironment
from pollbroker.testing.scenario import Topology
from pollbroker.wire.served import why_not_built

__all__ = [
    "ENVIRONMENTS",
    "Environment",
    "InprocEnvironment",
    "MakeEnvironment",
    "SimulatedEnvironment",
    "check_wire_is_built",
    "find_columns",
    "find_environment",
    "seeded",
    "shut_down",
    "streams_environment",
]

MakeEnvironment = Callable[[Topology], Environment]


def check_wire_is_built() -> None:
    """Raise `ConfigError` if the native module of the wire was not built."""
    why = why_not_built()
    if why is not None:
        raise ConfigError(f"the environment 'streams': {why}; expected the native module of the wire")


def streams_environment(topology: Topology, seed: int | None = None) -> Environment:
    """See `StreamsEnvironment`. Raises `ConfigError` if the native module of the wire was not built."""
    check_wire_is_built()
    from pollbroker.testing.environments.streams import StreamsEnvironment

    return StreamsEnvironment(topology, seed)


ENVIRONMENTS: Final[dict[str, MakeEnvironment]] = {
    "simulation": SimulatedEnvironment,
    "python": lambda topology: InprocEnvironment(topology, "python"),
    "native": lambda topology: InprocEnvironment(topology, "native"),
    "streams": streams_environment,
}
"""The environments by name: simulated with the Python pump, inproc with the Python pump, inproc with the native pump,
and ports of the wire on simulated streams."""

_SEEDED: Final[dict[str, Callable[[Topology, int], Environment]]] = {
    "simulation": SimulatedEnvironment,
    "streams": streams_environment,
}


def seeded(column: str, seed: int) -> MakeEnvironment:
    """Makes one of the environments in which a seed decides all that is chance: "simulation" or "streams". Raises
    `ConfigError` for any other."""
    _check_column("column", column, _SEEDED)
    return lambda topology: _SEEDED[column](topology, seed)


def find_environment(column: str | MakeEnvironment) -> MakeEnvironment:
    """What makes the environment of that name in `ENVIRONMENTS`, or the function itself that makes one. Raises
    `ConfigError` if there is none of that name."""
    if callable(column):
        return column
    _check_column("column", column, ENVIRONMENTS)
    return ENVIRONMENTS[column]


def find_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """The names of environments, which are one or more. Raises `ConfigError` if they are not."""
    names = tuple(columns) if isinstance(columns, Iterable) and not isinstance(columns, str) else ()
    if not names:
        raise ConfigError(f"columns: {columns!r}: expected a list of one or more of {', '.join(ENVIRONMENTS)}")
    for name in names:
        _check_column("columns", name, ENVIRONMENTS)
    return names


def _check_column(where: str, column: object, known: Collection[str]) -> None:
    if not isinstance(column, str) or column not in known:
        near = did_you_mean(str(column), known) or f"; expected one of {', '.join(known)}"
        raise ConfigError(f"{where}: {column!r} is not an environment{near}")
