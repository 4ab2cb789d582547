"""The kit's peers on simulated streams: they keep to ZMTP, and what they cannot do justice to is refused."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, DeviceError
from pollbroker.testing import check_device, check_scenario
from pollbroker.testing.environments.streams import StreamsEnvironment
from pollbroker.testing.scenario import Action, LinePlan, Scenario, Step, Topology
from pollbroker.testing.streams.zmtp import answer_to, encode_command


def streamer(**options: Any) -> Any:
    return replace(STREAMER, name="with-options", options={"backend": options})


@pytest.mark.parametrize("context", [b"", b"0123456789abcdef"])
def test_ping_is_answered_with_its_context(context: bytes) -> None:
    assert answer_to(b"\x04PING\x00\x0a" + context) == encode_command(b"PONG", context)
    assert answer_to(b"\x04PONG" + context) is None


@pytest.mark.parametrize("seed", range(5))
def test_peers_that_read_what_comes_answer_the_heartbeats_of_a_port(seed: int) -> None:
    line = LinePlan(streamer(heartbeat_ivl=20), client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL)
    round_ = (Step(Action.SEND), Step(Action.REST), Step(Action.TAKE, side="backend"))
    check_scenario(Scenario(Topology((line,)), round_ * 5), partial(StreamsEnvironment, seed=seed))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plain_server": 1}, "backend: peers on simulated streams have no credentials; .* without plain_server"),
        ({"plain_username": b"name"}, "backend: peers .* without plain_username"),
        ({"heartbeat_ivl": 100}, "backend: heartbeat_ivl is 100: .* expected 0, or 5000 or more"),
    ],
)
def test_options_that_peers_on_simulated_streams_cannot_do_justice_to_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        check_device(streamer(**options), columns=["streams"], examples=1)


def test_long_heartbeats_are_tried_on_simulated_streams() -> None:
    check_device(streamer(plain_server=0, heartbeat_ivl=5000), columns=["streams"], examples=2, steps=20)
