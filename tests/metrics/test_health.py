"""Whether an engine lives and is ready, whoever makes its turns."""

import threading
from contextlib import closing

import pytest

from pollbroker import Engine
from pollbroker.metrics import serve_metrics
from tests.support.http import ask
from tests.support.threads import running


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_engine_lives_if_a_loop_of_the_program_makes_its_turns(path: str) -> None:
    over = threading.Event()
    with closing(Engine()) as engine, serve_metrics(engine, "127.0.0.1:0") as server:

        def make_turns() -> None:
            while not over.is_set():
                engine.step(0.01)

        with running(make_turns):
            try:
                assert ask(server.address, path) == (200, "ok\n")
            finally:
                over.set()


def test_each_reason_is_a_line_whatever_is_in_it() -> None:
    with Engine() as engine:
        reasons = ["first\nsecond", "caf\udce9"]
        with serve_metrics(engine, "127.0.0.1:0", more_reasons=lambda: reasons) as server:
            assert ask(server.address, "/readyz") == (503, "first second\ncaf\\udce9\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_engine_does_not_live_if_nobody_makes_its_turns(path: str) -> None:
    with closing(Engine()) as engine, serve_metrics(engine, "127.0.0.1:0") as server:
        assert ask(server.address, path) == (503, "the engine does not run\n")
