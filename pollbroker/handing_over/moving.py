"""A broker that moves, to another process or within this one: why it cannot, what it consists of, and how another
broker is made of that.

Its ports are all the wire's. Everything here happens in the loop's thread.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pollbroker.handing_over.state import MovedBroker, MovedFile, MovedFlow, MovedPort
from pollbroker.pump import CoroutinePump, Flow, FlowState, RoutingPump
from pollbroker.socket_files import SocketFile
from pollbroker.states import BrokerState
from pollbroker.table import Table
from pollbroker.working import WorkingBroker

_STEPS_MOST: Final = 100
"""How many messages the handlers of a broker may make in one call of `come_between_messages`. All other brokers wait
meanwhile."""


def why_not_moved(broker: WorkingBroker) -> str | None:
    """Why the connections of a broker cannot be moved; None if they can."""
    if broker.state not in (BrokerState.RUNNING, BrokerState.PAUSED):
        return f"it is {broker.state}"
    if broker.hub.flushing:
        return "it is paused, and somebody waits until what it holds is delivered"
    if broker.disabled:
        return "it is disabled"
    if broker.device.behaviour is not None:
        return "its behaviour has a state of its own"
    if broker.state is BrokerState.PAUSED and _amid_a_message(broker):
        return "it is paused, and its handler has yet to say what else is made of a message"
    for port in broker.ports:
        if port.wire is None:
            return f"its {port.name} is a socket of libzmq"
    for flow in broker.hub.flows:
        if isinstance(flow.pump, CoroutinePump):
            return f"a coroutine handles what comes to its {broker.watched_ports[flow.source].name}"
    return None


def come_between_messages(broker: WorkingBroker, now_s: float) -> bool:
    """Let a broker receive nothing more until `receive_again`, so that it can be suspended. Return True when none of
    its handlers is amid a message.

    A handler that is amid one is let go on with it for a moment. If it has not come to its end then, the handler waits
    for the next call of this. If an error ends the broker meanwhile, False is returned."""
    for flow in broker.hub.flows:
        if flow.state not in (FlowState.PAUSED, FlowState.ENDED):
            flow.pause(now_s)
    for _ in range(_STEPS_MOST):
        amid = _amid_a_message(broker)
        if not amid or broker.state is not BrokerState.RUNNING:
            break
        for flow in amid:
            flow.resume()
        try:
            broker.hub.work(1, 1, now_s)  # with the budget of one message, a flow that is amid one receives no other
        except Exception as error:  # noqa: BLE001 - any error ends this one broker
            broker.fail(error)
            return False
        all_are_full = all(flow.state == FlowState.STALLED for flow in amid)
        for flow in amid:
            flow.state = FlowState.PAUSED  # unlike `pause`, this does not end a stall, which would be counted anew
        if all_are_full:
            break
    return not _amid_a_message(broker)


def receive_again(broker: WorkingBroker) -> None:
    """Undo `come_between_messages`."""
    if broker.state is BrokerState.RUNNING:
        for flow in broker.hub.flows:
            flow.resume()
        broker.hub.schedule()


def _amid_a_message(broker: WorkingBroker) -> list[Flow]:
    """The flows whose handlers have yet to say what else is made of a message."""
    return [flow for flow in broker.hub.flows if isinstance(flow.pump, RoutingPump) and flow.pump.is_amid_a_message]


def describe(broker: WorkingBroker, descriptors: list[int], now_s: float) -> MovedBroker:
    """What is needed to go on with a broker that is suspended, besides its descriptors, which are added to the list.

    Raises `ValueError` if it cannot be moved."""
    native: Any = import_module("pollbroker.wire.native")
    parts_of: Any = import_module("pollbroker.wire.implementation").parts_of
    parts_by_flow = [parts_of(flow.pump) for flow in broker.hub.flows]
    parts = [part for parts in parts_by_flow for part in parts]
    ports = []
    for port in broker.ports:
        socket, own = port.wire_socket.moved(parts)
        descriptors.extend(own)
        ports.append(MovedPort(socket, port.endpoints, tuple(map(_moved_file, port.files)), len(own)))
    flows = []
    for flow, of_flow in zip(broker.hub.flows, parts_by_flow, strict=True):
        accounts = tuple(tuple(native.account_numbers(part)) for part in of_flow)
        moved = MovedFlow(accounts, flow.stalls, flow.stalled_s(now_s), flow.waits, flow.waited_s)
        if isinstance(flow.pump, RoutingPump):
            held, destination, counters = flow.pump.carried()
            moved = replace(
                moved, held=None if held is None else tuple(held), destination=destination, counters=counters
            )
        flows.append(moved)
    return MovedBroker(broker.name, False, tuple(ports), tuple(flows), broker.earlier)


def _moved_file(file: SocketFile) -> MovedFile:
    assert file.identity is not None, "a broker that does not listen is not moved"
    return MovedFile(str(file.path), *file.identity, None if file.directory is None else str(file.directory))


def restore(broker: WorkingBroker, moved: MovedBroker, descriptors: list[int]) -> None:
    """Make the connections and the state of a broker those of this one, whose ports are new and connect nothing. The
    descriptors that belong to it now are removed from the list.

    Raises `ValueError`, `OverflowError`, `OSError` or `MemoryError`; the broker can only be let go then."""
    native: Any = import_module("pollbroker.wire.native")
    implementation: Any = import_module("pollbroker.wire.implementation")
    parts: list[Any] = []
    if len(moved.flows) != len(broker.hub.flows) or len(moved.ports) != len(broker.ports):
        raise ValueError("it has other ports or flows here")
    broker.earlier = moved.earlier
    for flow, carried in zip(broker.hub.flows, moved.flows, strict=True):
        of_flow, accounts = implementation.parts_of(flow.pump), carried.accounts
        is_given_handler = isinstance(flow.pump, RoutingPump) and len(accounts) == 1
        if is_given_handler:
            accounts = implementation.as_by_handler(*accounts)
        if len(accounts) != len(of_flow):
            raise ValueError("its flows have other parts here")
        for part, numbers in zip(of_flow, accounts, strict=True):
            native.carry_on(part, list(numbers))
        # In the record, what is queued was sent by the only part of the pump without a handler. That is the sender now.
        parts += of_flow[-1:] if is_given_handler else of_flow
        _carry_on(flow, carried, is_given_handler=is_given_handler)
    for port, arrived in zip(broker.ports, moved.ports, strict=True):
        if arrived.descriptors > len(descriptors):
            raise ValueError(f"{port.name}: descriptors are missing")
        own = descriptors[: arrived.descriptors]
        del descriptors[: arrived.descriptors]
        try:
            port.wire_socket.restore(arrived.socket, parts, own)
        except ValueError as error:
            raise ValueError(f"{port.name}: {error}") from error
        finally:
            descriptors[:0] = own
        port.endpoints = arrived.endpoints
        port.files = tuple(
            SocketFile(
                Path(file.path),
                (file.device, file.inode),
                None if file.directory is None else Path(file.directory),
            )
            for file in arrived.files
        )
        native.resume(port.wire)


def _carry_on(flow: Any, carried: MovedFlow, *, is_given_handler: bool) -> None:
    flow.carry_on(carried.stalls, carried.stalled_s, carried.waits, carried.waited_s)
    if isinstance(flow.pump, RoutingPump) and not is_given_handler:
        if not all(sink < len(flow.sinks) for sink in carried.destination) or len(carried.counters) != 3:
            raise ValueError("the message that a flow holds is for sinks that there are not")
        if carried.held is not None and not (carried.held and carried.destination):
            raise ValueError("a flow holds a message of no frames, or for no sink")
        added, filtered, failed = carried.counters
        held = None if carried.held is None else list(carried.held)
        flow.pump.carry_on(held, carried.destination, (added, filtered, failed))
    elif carried.held is not None:
        raise ValueError("a flow holds a message that cannot")


def go_on(broker: WorkingBroker, *, paused: bool) -> None:
    """Let a broker that was restored move messages, unless it is to be `paused`, or was paused while it waited to be
    restored. If it was disabled meanwhile, it stops listening."""
    for port in broker.ports:
        port.wire_socket.subscribe_anew()
    if broker.disabled:
        broker.disable()
    if paused or broker.state is BrokerState.PAUSED:
        broker.pause()
        return
    flows: Sequence[Flow] = broker.hub.flows
    for flow in flows:
        flow.resume()
    broker.hub.schedule()


def close_ports(broker: WorkingBroker) -> None:
    """Close the connections of a broker that somebody else has, too, without a word to the peers. It has to be ended
    then."""
    for port in broker.ports:
        port.wire_socket.give_away()


def let_go(broker: WorkingBroker, table: Table) -> None:
    """End a broker whose connections another process has."""
    close_ports(broker)  # before the broker ends, so that nothing is read or removed then
    table.forget(broker)
