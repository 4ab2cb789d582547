"""The questions by name, in the order in which they are asked and printed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bench.question import Question
from bench.questions import (
    bare_loop,
    busy_memory,
    busy_pairs,
    capture,
    cheap_load,
    consumer_away,
    control,
    forwarder_rate,
    frames,
    growth,
    guide_brokers,
    handler_route,
    heartbeats,
    idle,
    idle_connections,
    knobs,
    loop_ticker,
    loops,
    many_brokers,
    neighbours,
    other_libraries,
    python_peers,
    python_pump,
    queue_rate,
    queue_requests,
    round_trip,
    streamer_rate,
    thread_devices,
    wire_grid,
    wire_ports,
    worker_turns,
)

QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        module.QUESTION.name: module.QUESTION
        for module in (
            streamer_rate,
            queue_requests,
            queue_rate,
            forwarder_rate,
            frames,
            cheap_load,
            bare_loop,
            busy_pairs,
            round_trip,
            idle,
            consumer_away,
            control,
            growth,
            python_pump,
            python_peers,
            handler_route,
            capture,
            knobs,
            other_libraries,
            loops,
            loop_ticker,
            thread_devices,
            guide_brokers,
            worker_turns,
            busy_memory,
            heartbeats,
            wire_ports,
            wire_grid,
            idle_connections,
            neighbours,
            many_brokers,
        )
    }
)
