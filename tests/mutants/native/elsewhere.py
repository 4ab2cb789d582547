"""Mutants of Python code at which the kit does not look."""

from typing import Final

from tests.mutants.native.mutant import Mutant

OTHER_MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a registered socket of asyncio or gevent is used without its plain twin",
        "port.py",
        (("    return zmq.Socket(shadow=socket.underlying) if own else socket\n", "    return socket\n"),),
    ),
    Mutant(
        "an iterator that raised is asked again",
        "pump/routing.py",
        (
            (
                "        except Exception as error:  # noqa: BLE001 - as above\n            self._rest = None\n",
                "        except Exception as error:  # noqa: BLE001 - as above\n",
            ),
        ),
    ),
    Mutant(
        "an iterator that was interrupted is asked again",
        "pump/routing.py",
        (
            (
                "        except BaseException:\n            self._rest = None\n",
                "        except BaseException:\n",
            ),
        ),
    ),
)
