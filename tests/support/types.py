"""The types of sockets, and of the fixtures in `tests/conftest.py` that make something."""

from collections.abc import Callable
from typing import Any, TypeAlias

import zmq

from pollbroker import Engine

Socket: TypeAlias = zmq.Socket[Any]

MakeEngine: TypeAlias = Callable[..., Engine]
"""`make_engine(context, waiter="flat")`: the arguments are those of `Engine`."""

Connect: TypeAlias = Callable[..., Socket]
"""`connect(zmq.REQ, endpoint, rcvhwm=1)`: the options of the socket are keywords."""
