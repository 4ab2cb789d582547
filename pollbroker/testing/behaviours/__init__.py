"""Testing devices with a behaviour: peers send by chance, and what the behaviour was told and asked for is judged."""

from pollbroker.testing.behaviours.checking import check_behaviour, check_behaviour_device, check_behaviour_seed
from pollbroker.testing.behaviours.judging import never_raises
from pollbroker.testing.behaviours.recording import BehaviourCall, BehaviourTrace
from pollbroker.testing.behaviours.scenario import BehaviourAction, BehaviourScenario, BehaviourStep, Talk

__all__ = [
    "BehaviourAction",
    "BehaviourCall",
    "BehaviourScenario",
    "BehaviourStep",
    "BehaviourTrace",
    "Talk",
    "check_behaviour",
    "check_behaviour_device",
    "check_behaviour_seed",
    "never_raises",
]
