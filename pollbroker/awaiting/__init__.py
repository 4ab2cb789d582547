"""What the engines have in common whose waits are awaited: those of `pollbroker.asyncio` and `pollbroker.trio`.

It stands on public methods of `pollbroker.Engine`. How a loop makes the turns and waits is in a `Turns` for each.
"""

from pollbroker.awaiting.adoption import Adoption
from pollbroker.awaiting.broker import Broker
from pollbroker.awaiting.engine import AwaitedEngine
from pollbroker.awaiting.turns import Turns

__all__ = ["Adoption", "AwaitedEngine", "Broker", "Turns"]
