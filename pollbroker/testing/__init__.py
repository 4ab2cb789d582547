"""The property-test kit: test a device of your own as hard as the built-in ones are tested. docs/testing.md tells how.

from pollbroker.testing import check_device

def test_my_device():
    check_device(MY_DEVICE)
"""

from zmq import SocketType

from pollbroker.device import Device, Route
from pollbroker.standard_devices import DEVICES
from pollbroker.testing.behaviours import (
    BehaviourAction,
    BehaviourCall,
    BehaviourScenario,
    BehaviourStep,
    BehaviourTrace,
    Talk,
    check_behaviour,
    check_behaviour_seed,
    never_raises,
)
from pollbroker.testing.checking import check_device, check_scenario, check_seed
from pollbroker.testing.comparing import check_columns
from pollbroker.testing.devices import (
    DEALERS,
    EXCHANGE,
    FAN_IN,
    FAN_OUT,
    NEWS,
    PATIENT_QUEUE,
    SEVERAL_SINKS,
    SHARDS,
    TEE,
    TUNNEL,
    named,
)
from pollbroker.testing.driving import Driver, Send, drive
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.machine import DeviceMachine, device_machine
from pollbroker.testing.promises import (
    Call,
    Promises,
    calls_of,
    keeps_envelope,
    keeps_order,
    loses_nothing,
    one_to_one,
    pure,
)
from pollbroker.testing.relay import check_relay, examine_relay
from pollbroker.testing.scenario import Action, LinePlan, Meanwhile, Scenario, Step, Topology
from pollbroker.testing.simulation import SimNetwork
from pollbroker.testing.strategies import (
    faults,
    high_water_marks,
    meanwhiles,
    messages,
    scenarios,
    schedules,
    topologies,
)
from pollbroker.testing.trace import (
    Copied,
    Counted,
    Failed,
    Got,
    Handled,
    Heard,
    Iterated,
    Joined,
    Left,
    Lost,
    PortCounted,
    Returned,
    Sent,
    Slept,
    Steered,
    Trace,
    Turned,
    Wanted,
)
from pollbroker.testing.violation import InvariantViolation

__all__ = [
    "DEALERS",
    "DEVICES",
    "EXCHANGE",
    "FAN_IN",
    "FAN_OUT",
    "INVARIANTS",
    "NEWS",
    "PATIENT_QUEUE",
    "SEVERAL_SINKS",
    "SHARDS",
    "TEE",
    "TUNNEL",
    "Action",
    "BehaviourAction",
    "BehaviourCall",
    "BehaviourScenario",
    "BehaviourStep",
    "BehaviourTrace",
    "Call",
    "Copied",
    "Counted",
    "Device",
    "DeviceMachine",
    "Driver",
    "Failed",
    "Got",
    "Handled",
    "Heard",
    "Invariant",
    "InvariantViolation",
    "Iterated",
    "Joined",
    "Left",
    "LinePlan",
    "Lost",
    "Meanwhile",
    "PortCounted",
    "Promises",
    "Returned",
    "Route",
    "Scenario",
    "Send",
    "Sent",
    "SimNetwork",
    "Slept",
    "SocketType",
    "Steered",
    "Step",
    "Talk",
    "Topology",
    "Trace",
    "Turned",
    "Wanted",
    "calls_of",
    "check_behaviour",
    "check_behaviour_seed",
    "check_columns",
    "check_device",
    "check_relay",
    "check_scenario",
    "check_seed",
    "check_trace",
    "device_machine",
    "drive",
    "examine_relay",
    "faults",
    "high_water_marks",
    "keeps_envelope",
    "keeps_order",
    "loses_nothing",
    "meanwhiles",
    "messages",
    "named",
    "never_raises",
    "one_to_one",
    "pure",
    "scenarios",
    "schedules",
    "topologies",
]
