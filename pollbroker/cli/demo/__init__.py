"""`pollbroker demo`: three brokers under real traffic, and proof that nothing was lost.

Two kinds of process are at work, and each reads only what it needs. The demo itself is `command.py`, which starts the
engine and reads from top to bottom; it steers its peers through `crew.py`, shows what happens through `screen.py`, and
judges the end by `checks.py`. A peer is `peer.py`, which obeys `orders.py` and plays one of `roles.py`. What both sides
must agree on, the messages and the reports about them, is `workload.py`.
"""

from pollbroker.cli.demo.command import demo

__all__ = ["demo"]
