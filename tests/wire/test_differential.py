"""The same schedules on ports of libzmq and on ports of the wire, against one model of what has to arrive.

The schedules and the models are in `tests/support/schedules/`. Here the peers are sockets of pyzmq in this process;
`tests/others/` has those of other libraries.
"""

from collections.abc import Callable
from typing import Final

import pytest
import zmq
from hypothesis import HealthCheck, given, settings

from pollbroker import Engine
from tests.support.schedules import exchange, news
from tests.support.schedules.peers import Pyzmq
from tests.support.schedules.steps import NewsSchedule, Schedule, news_schedules, schedules
from tests.support.types import MakeEngine, Socket

_few: Final = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def engines(make_engine: MakeEngine) -> Callable[[int], Engine]:
    """Engines by how many messages they move at a time, which go on through all examples."""
    made: dict[int, Engine] = {}

    def get(burst: int) -> Engine:
        if burst not in made:
            made[burst] = make_engine(burst_messages=burst)
            made[burst].start()
        return made[burst]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("name", exchange.EXCHANGES)
def test_both_transports_keep_the_model(
    engines: Callable[[int], Engine], context: zmq.Context[Socket], name: str
) -> None:
    @_few
    @given(schedules)
    def check(schedule: Schedule) -> None:
        for transport in ("wire", "libzmq"):
            exchange.run(engines(schedule.burst), Pyzmq(context), transport, schedule, exchange.EXCHANGES[name])

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", news.DISTRIBUTIONS)
def test_both_transports_keep_to_the_subscriptions(
    engines: Callable[[int], Engine], context: zmq.Context[Socket], name: str
) -> None:
    @_few
    @given(news_schedules)
    def check(schedule: NewsSchedule) -> None:
        for transport in ("wire", "libzmq"):
            news.run(engines(1000), Pyzmq(context), transport, schedule, news.DISTRIBUTIONS[name])

    check()
