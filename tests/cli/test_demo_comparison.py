"""The demo's comparison: it tells what keeps its promises from what does not."""

import time
from collections.abc import Iterator

import pytest
import zmq

from pollbroker.cli.demo import comparison
from pollbroker.cli.demo.comparison import Seen, compare, see_departed_client, see_pause
from pollbroker.cli.demo.processes import DemoError
from pollbroker.cli.demo.requesting import WINDOW, Pipeliner
from pollbroker.cli.demo.side import Side
from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.workload import make_body, make_reply
from tests.support.addresses import bind
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket


@pytest.fixture
def proxy() -> Iterator[Side]:
    """zmq.proxy in a process of its own."""
    with Side("zmq.proxy") as side:
        side.wait_until_ready()
        yield side


def figures(seen: Seen) -> list[tuple[str, str]]:
    """What both sides have done, in one situation."""
    return [(row.ours, row.theirs) for row in seen.rows]


def test_what_counts_no_replies_of_a_departed_client_fails(proxy: Side) -> None:
    seen = see_departed_client(proxy, proxy)
    assert figures(seen) == [("20 lost", "20 lost"), ("nothing", "nothing")]
    assert not seen.check.holds
    assert seen.check.wrong == ("20 replies were for the client that had left, None were counted as unroutable",)


@pytest.mark.skipif(zmq.zmq_version_info() != (4, 3, 5), reason="only this libzmq goes on after PAUSE")
def test_what_goes_on_after_pause_fails(proxy: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_SURE_MS", 200)
    with Side("zmq.proxy") as other:
        other.wait_until_ready()
        seen = see_pause(proxy, other)
    assert not seen.check.holds
    assert seen.check.wrong[0] == "100 of 100 messages passed while it was paused"


def test_contender_that_ends_by_itself_is_named() -> None:
    with Side("nobody") as side, pytest.raises(DemoError, match=r"^demo: nobody ended before .*KeyError: 'nobody'$"):
        side.wait_until_ready()


@pytest.mark.slow
def test_every_situation_is_announced_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_SLICES", 1)
    said: list[str] = []
    with Side("pollbroker") as ours, Side("zmq.proxy") as theirs:
        seen = list(compare(ours, theirs, said.append))
        before = [side.facts().cpu_s for side in (ours, theirs)]
        end_s = time.thread_time() + 0.4
        while time.thread_time() < end_s:
            pass  # on a busy machine, too, a process that does not sleep is given about as much as this one
        idle = [side.facts().cpu_s - then for side, then in zip((ours, theirs), before, strict=True)]
    assert max(idle) < 0.1, "what is left of one situation must not cost processor time in the next"
    assert [one.check.holds for one in seen] == [True] * 4
    announced = [line for line in said if " of 4: " in line]
    assert len(announced) == 4
    departed = figures(seen[1])
    assert departed == [("20 lost", "20 lost"), ("20", "nothing")]
    assert figures(seen[2])[0][0] == "0"
    assert figures(seen[2])[1][0] == "200"
    assert figures(seen[3])[-1] == ("1", "4")


def test_a_pipelined_client_has_several_requests_on_their_way_and_knows_its_replies(
    connect: Connect, context: zmq.Context[Socket]
) -> None:
    worker = connect(zmq.ROUTER)
    client = Pipeliner(context, StdinCommands(), "pipeliner", 0, [])
    client.socket.connect(bind(worker))
    try:
        assert not client.is_ready()
        peer, empty, request = worker.recv_multipart()
        worker.send_multipart([peer, empty, make_reply(request)])
        wait_until(client.is_ready)
        client.state = type(client.state).SENDING
        client.work()
        requests = [worker.recv_multipart()[2] for _ in range(WINDOW)]
        assert requests == [make_body("p0", number) for number in range(2, WINDOW + 2)]
        assert not worker.poll(0)
        for answer in (make_reply(requests[1]), make_reply(requests[0]), b"another's"):
            worker.send_multipart([peer, empty, answer])

        def has_got_all() -> bool:
            client.work()
            return client.replies == 4

        wait_until(has_got_all)
        assert client.wrong == 1
    finally:
        client.socket.close()
