"""The flows of every hub have what the contract says. The tests of `tests/pump` run the two hubs of `pollbroker.pump`;
there is a third one, that of brokers whose ports are the wire's.
"""

import pytest

from pollbroker import STREAMER, Engine
from pollbroker.broker import working_broker
from pollbroker.pump.contract import Flow
from tests.support.addresses import ANY_PORT

MEMBERS = {*Flow.__annotations__, *(name for name in vars(Flow) if not name.startswith("_"))}


@pytest.mark.parametrize(("pump", "transport"), [("python", "libzmq"), ("native", "libzmq"), ("native", "wire")])
def test_flow_of_every_hub_has_what_the_contract_says(pump: str, transport: str) -> None:
    assert {"stalls", "waits", "pause"} < MEMBERS
    with Engine(pump=pump) as engine:
        broker = engine.add("jobs", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        (flow,) = working_broker(broker).hub.flows
        assert sorted(name for name in MEMBERS if not hasattr(flow, name)) == []
