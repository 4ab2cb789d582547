"""The questions by name, in the order in which they are asked and printed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bench.question import Question
from bench.questions import consumer_away, python_pump, queue_rate, queue_requests, round_trip, streamer_rate

QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        module.QUESTION.name: module.QUESTION
        for module in (streamer_rate, queue_requests, queue_rate, consumer_away, round_trip, python_pump)
    }
)
