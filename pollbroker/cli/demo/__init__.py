"""`pollbroker demo`: pollbroker beside zmq.proxy, three brokers under real traffic, and a check that nothing was lost.

The demo itself is `command.py`. It has two parts, `comparison.py` and `traffic.py` (which steers its brokers by
`steering.py`), shows their results (`screen.py`), and checks them (`checks.py`). Everything else are processes that it
starts and tells what to do (`processes.py`, `side.py`), and that read commands from their stdin (`stdin.py`):

- a peer, `peer.py`, has one of the roles in `roles.py`;
- a contender, `contender.py`, runs brokers by an engine or by zmq.proxy.

`workload.py` has what all must agree on: the messages, and the reports about them.
"""
