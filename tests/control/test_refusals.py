"""What every command says of a broker that is not there, and of a number of frames that it does not take."""

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import attach
from tests.support.addresses import ANY_PORT
from tests.support.control import COMMANDS, FOR_ONE, make_ask, text_of
from tests.support.types import Connect

NAMING = (*(command for command in COMMANDS if command != b"LIST"), b"REMOVE", b"EVENTS", b"TAP")
"""The commands that may name a broker."""


@pytest.mark.parametrize(
    ("number", "known"),
    [
        (0, "none"),
        (2, "broker0, broker1"),
        (10, ", ".join(f"broker{number}" for number in range(10))),
        (11, ", ".join(f"broker{number}" for number in range(10)) + ", ..."),
    ],
)
def test_name_that_no_broker_has_is_refused_and_names_that_are_left_out_are_not_concealed(
    number: int, known: str, connect: Connect
) -> None:
    with Engine() as engine:
        for name in range(number):
            engine.add(f"broker{name}", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
        ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
        for command in NAMING:
            assert text_of(ask(command, b"xyz")) == f"{command.decode()}: no broker is named 'xyz'; there are: {known}"
            assert text_of(ask(command, b"\xff")) == rf"{command.decode()}: '\\xff': expected a broker's name in UTF-8"


def test_number_of_frames_that_a_command_does_not_take_is_said(connect: Connect) -> None:
    with Engine() as engine:
        ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
        for command in (*FOR_ONE, b"REMOVE", b"TAP"):
            assert text_of(ask(command)).startswith(f"{command.decode()}: 1 frame; expected the command")
        for command in (*NAMING, b"LIST"):
            refused = text_of(ask(command, b"a", b"1", b"b", b"c"))
            assert refused.startswith(f"{command.decode()}: 5 frames; expected the command")
