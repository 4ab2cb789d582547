"""The errors that pollbroker raises.

Each message says what is wrong, where, and what was expected. What a peer sends is never an error: it is counted.
"""


class PollbrokerError(Exception):
    """The base of every error that pollbroker raises of its own."""


class DeviceError(PollbrokerError):
    """A device definition is unsound, or a socket does not fit the device that it was registered with."""


class EndpointError(PollbrokerError):
    """An endpoint is malformed, or cannot be bound or connected."""

    address: str | None = None
    """The address that could not be bound or connected, as libzmq was given it."""


class ConfigError(PollbrokerError):
    """A setting (a socket option, an environment variable, a limit) is unknown, or its value is unfit."""


class ControlError(PollbrokerError):
    """A control command is unknown or malformed, or was refused by the engine that it was sent to."""


class EngineError(PollbrokerError):
    """The engine cannot do this now: it is closed, was forked, runs already, or does not know the broker's name."""
