"""Addresses at which the wire does not listen, as libzmq does not."""

import re

import pytest

from pollbroker import STREAMER, EndpointError, Engine
from tests.support.addresses import ANY_PORT


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
@pytest.mark.parametrize("endpoint", ["@ipc://@", ">ipc://@"])
def test_abstract_name_of_no_characters(engine: Engine, transport: str, endpoint: str) -> None:
    """The kernel would choose a name of its own, at which nobody can connect."""
    with pytest.raises(EndpointError, match=rf"^brokers\.a\.frontend: .*{re.escape(endpoint[1:])}: "):
        engine.add("a", STREAMER, frontend=endpoint, backend=ANY_PORT, transport=transport)
    assert not engine.brokers


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
def test_address_of_ipv6_where_ipv6_is_switched_off(engine: Engine, transport: str) -> None:
    with pytest.raises(EndpointError, match=r"^brokers\.a\.frontend: @tcp://\[::1\]:\*: cannot bind: No such device"):
        engine.add(
            "a", STREAMER, frontend="tcp://[::1]:*", backend=ANY_PORT, frontend_options={"ipv6": 0},
            transport=transport,
        )  # fmt: skip
    assert not engine.brokers


def test_address_of_ipv6_to_connect_to_where_ipv6_is_switched_off(engine: Engine) -> None:
    """libzmq would try it again and again in vain."""
    with pytest.raises(EndpointError, match=r"^brokers\.a\.frontend: >tcp://\[::1\]:5555: cannot connect: No such"):
        engine.add("a", STREAMER, frontend=">tcp://[::1]:5555", backend=ANY_PORT, frontend_options={"ipv6": 0})
    assert not engine.brokers
