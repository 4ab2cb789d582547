"""The errors of clients and workers."""

from pollbroker.errors import PollbrokerError


class RpcError(PollbrokerError):
    """A client or a worker cannot do this: it was closed, or what it was given cannot be sent."""


class RequestTimeout(RpcError, TimeoutError):
    """No reply came in time, or no request. The message names the endpoint, the service, the time and the tries."""


class TitanicError(RpcError):
    """A Titanic server refused a request, or could not carry it out (RFC 9, "Status Frames")."""


class ServerFailed(TitanicError):
    """A Titanic server could not do it now. Ask again later."""


class UnknownRequest(TitanicError):
    """A Titanic server does not know this UUID: the request was closed, or never stored. Do not ask again."""


class Stopped(RpcError):
    """A worker's `stop` was called."""
