"""Handing brokers over to another process, with their listeners and live connections. Or, within this one, to another
broker that takes the place of one (`replacing.py`).

`leaving.py` is the side that has them, `arriving.py` the side that takes them over. They talk by the frames of
`channel.py`, about what `description.py` and `state.py` describe; `moving.py` makes that of a broker, and a broker of
that:

| the new process | the old process |
| --- | --- |
| HELLO: the versions that it can read | |
| | OFFER: the version, and the brokers that can be moved |
| CLAIM: those of them that it has added | |
| | stops these; the descriptors; STATE: everything else |
| makes the same brokers of that; READY | |
| | COMMIT |
| TAKEN; it serves | |
| | closes its descriptors |

Each side may send REFUSED instead, with the reason, and everything stays as it was.

**Who serves.** Exactly one message decides: TAKEN. The new process serves from the moment at which the kernel has
accepted it. Until then the old one may change its mind: it shuts its socket down for reading, and looks what has come.
If TAKEN is there, the other process has taken over. If not, none can come any more, and the old process goes on. The
kernel does both under one lock (unix(7)), so that never both serve, and never none of two that live.

If the new process is told that TAKEN was not accepted, it waits for REFUSED. If the end of the stream comes instead,
the old process has died after COMMIT, and the new one serves.
"""

from pollbroker.handing_over.arriving import Adoption
from pollbroker.handing_over.description import HandedOver
from pollbroker.handing_over.leaving import Departure
from pollbroker.handing_over.replacing import AmidMessageError, Replacing

__all__ = ["Adoption", "AmidMessageError", "Departure", "HandedOver", "Replacing"]
