"""`pollbroker demo`: three brokers under real traffic, and a check that nothing was lost.

There are two kinds of processes. The first is the demo itself, `command.py`: it starts the engine, starts and steers
the peers (`processes.py`), shows the rates and results (`screen.py`), and checks the results (`checks.py`). The others
are the peers, `peer.py`: each reads commands (`stdin.py`) and has one of the roles in `roles.py`. `workload.py` has
what both sides must agree on: the messages, and the reports about them.
"""
