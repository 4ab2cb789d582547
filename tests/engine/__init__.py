"""The engine, its loop and its turn: what is promised of it, with brokers, callbacks, timers, calls and signals."""
