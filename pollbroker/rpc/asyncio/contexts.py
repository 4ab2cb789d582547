"""Contexts whose sockets are awaited."""

from typing import Any

import zmq
import zmq.asyncio


def awaited(context: zmq.Context[Any] | None) -> zmq.asyncio.Context:
    """A view of a context, or of `zmq.Context.instance()`, whose sockets are awaited. It terminates nothing."""
    given = zmq.Context.instance() if context is None else context
    return zmq.asyncio.Context(shadow=given)
