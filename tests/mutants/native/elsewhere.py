"""Mutants of Python code at which the kit does not look."""

from typing import Final

from tests.mutants.native.mutant import Mutant

OTHER_MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a registered socket of asyncio or gevent is used without its plain twin",
        "port.py",
        (("    return zmq.Socket(shadow=socket.underlying) if own else socket\n", "    return socket\n"),),
        test="tests/native/test_other_sockets.py::test_sockets_of_asyncio_are_served",
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
        test="tests/native/test_iterators.py::test_iterator_that_raised_is_not_asked_again",
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
        test="tests/native/test_iterators.py::test_iterator_that_raised_is_not_asked_again",
    ),
)
