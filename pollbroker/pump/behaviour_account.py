"""The account of a behaviour: what became of the messages that it was given, as far as no port counts it."""

from pollbroker.behaviour import Behaviour
from pollbroker.errors import BehaviourError
from pollbroker.pump.behaviour_waits import BehaviourWaits


class BehaviourAccount:
    """Received + added = sent + held + dropped, where the ports count what was received and sent.

    The behaviour itself says how many messages it keeps. What becomes of a message follows from that: if a call was
    given one, and the behaviour neither keeps one more nor has sent one, it is filtered.
    """

    def __init__(self, behaviour: Behaviour, waits: BehaviourWaits) -> None:
        self.added = 0
        self.filtered = 0
        self.failed = 0
        self.kept = 0
        """How many messages the behaviour keeps, as it said after its last call."""
        self._behaviour = behaviour
        self._waits = waits

    def add_call(self, given: int, sent: int) -> None:
        """Account for a call that was given so many messages, and has asked to send so many.

        Raises `BehaviourError` if the behaviour keeps more than it may, or does not say how many, and whatever it
        raises itself.
        """
        behaviour = self._behaviour
        try:
            kept = behaviour.held
            if kept == self.kept and given == sent and type(kept) is int:
                return  # the message has gone on, as most do
            if type(kept) is not int or kept < 0:
                raise BehaviourError(f"{self._name}: held is {kept!r}: expected how many messages it keeps")
            too_many = kept > behaviour.max_held
        except BaseException:
            self.failed += given  # nobody can tell what became of it
            raise
        balance = given + self.kept - kept - (0 if too_many else sent)
        if balance > 0:
            self.filtered += balance
        else:
            self.added -= balance
        self._waits.kept_changed(kept - self.kept)
        self.kept = kept
        if too_many:
            raise BehaviourError(
                f"{self._name} keeps {kept} messages; expected no more than its max_held, which is {behaviour.max_held}"
            )

    @property
    def _name(self) -> str:
        return type(self._behaviour).__name__
