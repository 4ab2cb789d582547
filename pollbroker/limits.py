"""How much the peers of a broker's ports may take."""

from dataclasses import dataclass

from pollbroker.checks import SettingChecks
from pollbroker.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits for the peers of a broker's ports. Only ports of the wire have them.

    What exceeds a limit ends its own connection, or one does not begin. Each is counted in
    `PortStatistics.connections_ended`.

    Raises `ConfigError` for a value that is not a whole number.
    """

    connections: int = 100_000
    """Connections of one port. One that has ended still counts while messages from it wait to be taken."""
    connections_per_address: int | None = None
    """Connections of one port from one IP address. None: as many as the port may have. Connections of `ipc://` have no
    address."""
    handshakes: int = 10_000
    """Connections of one port that have not yet shaken hands. Each has the socket option `handshake_ivl` for it."""
    subscriptions: int = 100_000
    """Topics that one peer may subscribe to."""
    subscription_bytes: int = 4_096
    """The length of such a topic."""

    def __post_init__(self) -> None:
        settings = dict(vars(self))
        if self.connections_per_address is None:
            del settings["connections_per_address"]
        SettingChecks("limits", ConfigError).whole(most=(1 << 63) - 1, **settings)
