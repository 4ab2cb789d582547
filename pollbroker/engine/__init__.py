"""The engine, in three parts: `engine.py` has its brokers, `running.py` makes it run, and `observing.py` tells what is
and what happens in it."""

from pollbroker.engine.engine import Engine, engine_context, engine_loop

__all__ = ["Engine", "engine_context", "engine_loop"]
