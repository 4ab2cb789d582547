"""Starting a program that is nobody's child.

The process in between ends at once, so that the parent of the program is that of all orphans: systemd, where it runs
the daemon. systemd knows when a child of its own ends, and waits for it when the service is stopped. A main process
that is not its child it kills at once, if the unit has `KillMode=mixed`.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

_BETWEEN: Final = """
import os, subprocess, sys
told, descriptor, *command = sys.argv[1:]
try:
    os.write(int(told), b"%d" % subprocess.Popen(command, pass_fds=[int(descriptor)]).pid)
except OSError as error:
    os.write(int(told), str(error).encode())
    sys.exit(1)
"""


class Orphan:
    """A program that was started in this way."""

    def __init__(self, command: Sequence[str], descriptor: int, environment: Mapping[str, str]) -> None:
        """Start a command, with this descriptor. Raises `OSError` if it cannot be started."""
        told, telling = os.pipe()
        with os.fdopen(told) as answer:
            with os.fdopen(telling, "w"):
                between = [sys.executable, "-I", "-S", "-c", _BETWEEN, str(telling), str(descriptor), *command]
                done = subprocess.run(between, pass_fds=(telling, descriptor), env=environment, check=False)
            said = answer.read()
        if done.returncode:
            raise ChildProcessError(said or f"{command[0]}: it cannot be started")
        self.pid = int(said)
        self._descriptor: int | None = None
        with suppress(OSError):  # it has ended already
            self._descriptor = os.pidfd_open(self.pid)

    def wait_for_end(self, timeout_s: float) -> bool:
        """Wait until it has ended, up to `timeout_s`. Return False if it has not."""
        if self._descriptor is None:
            return True
        end = select.poll()
        end.register(self._descriptor, select.POLLIN)
        ended = bool(end.poll(timeout_s * 1000))
        with suppress(ChildProcessError):  # as a rule it is another process that takes care of orphans
            os.waitpid(self.pid, os.WNOHANG)
        return ended

    def kill(self, timeout_s: float) -> None:
        """Kill it, and wait until it has ended, up to `timeout_s`."""
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            self.wait_for_end(timeout_s)

    def close(self) -> None:
        """Leave it to itself."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
