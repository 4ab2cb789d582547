"""Moving messages: the native pump and the Python one, the pump for routes with a handler or several sinks, and the
flows and hubs that carry pumps."""

from pollbroker.pump.behaviour_pumps import NO_SOURCE, OutgoingPump, SourcePump, let_flows_go_on
from pollbroker.pump.behaviours import BehaviourRun
from pollbroker.pump.choosing import PYTHON, Classes, choose_implementation, native_classes
from pollbroker.pump.contract import Flow, Hub, HubOwner, Implementation, Pump, Receiver, Sender, Socket
from pollbroker.pump.coroutines import CoroutinePump, StartTask
from pollbroker.pump.limits import MAXFRAMES, SUBSCRIPTION_MAX_BYTES
from pollbroker.pump.message import Handler, Message, To, is_coroutine_handler
from pollbroker.pump.outcomes import EMPTY, FLUSHED, FULL, LIMIT, RETRY, SENT, FlowState
from pollbroker.pump.routing import RoutingPump
from pollbroker.pump.sending import send_copies
from pollbroker.pump.turns import Bursts, Collector, MessageTurns

__all__ = [
    "EMPTY",
    "FLUSHED",
    "FULL",
    "LIMIT",
    "MAXFRAMES",
    "NO_SOURCE",
    "PYTHON",
    "RETRY",
    "SENT",
    "SUBSCRIPTION_MAX_BYTES",
    "BehaviourRun",
    "Bursts",
    "Classes",
    "Collector",
    "CoroutinePump",
    "Flow",
    "FlowState",
    "Handler",
    "Hub",
    "HubOwner",
    "Implementation",
    "Message",
    "MessageTurns",
    "OutgoingPump",
    "Pump",
    "Receiver",
    "RoutingPump",
    "Sender",
    "Socket",
    "SourcePump",
    "StartTask",
    "To",
    "choose_implementation",
    "is_coroutine_handler",
    "let_flows_go_on",
    "native_classes",
    "send_copies",
]
