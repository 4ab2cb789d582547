"""`pollbroker top`: what the brokers of a running engine do, live, over its control socket.

- `figures.py` makes figures of two snapshots.
- `view.py` has what the user has chosen, and what keys do; `drawing.py` draws it.
- `asking.py` asks the engine in a thread of its own, and `terminal.py` reads keys.
- `command.py` is the command, and `watching.py` puts all of them together.
"""
