"""Mailboxes: how one socket tells another that something has changed, and what ZMQ_FD shows of that.

Rules, which are libzmq's (mailbox.cpp, reaper.cpp):

- A command takes effect when the socket that it is for processes its mailbox, and not before.
- ZMQ_FD is readable from the moment a command arrives at an empty mailbox until all are processed. So it tells that
  something *has* happened; reading ZMQ_EVENTS makes it quiet again.
- A closed socket goes on answering until its peers have let go. libzmq's reaper thread sees to that; here it happens as
  soon as the command is posted, but never inside of another such command.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

Command: TypeAlias = tuple[Callable[[Any, int], None], Any, int]
"""A function, whom it is for (a pipe, or a socket), and a number."""


class Reaper:
    """Runs what is posted to closed sockets."""

    __slots__ = ("_commands", "_runs")

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._runs = False

    def post(self, *commands: Command) -> None:
        self._commands.extend(commands)
        if self._runs:
            return
        self._runs = True
        try:
            while self._commands:
                function, target, number = self._commands.popleft()
                function(target, number)
        finally:
            self._runs = False


class Mailbox:
    """The commands that one socket has yet to process."""

    __slots__ = ("_descriptor", "_reaper", "_signalled", "commands")

    def __init__(self) -> None:
        self.commands: deque[Command] = deque()
        self._descriptor = -1
        self._signalled = False
        self._reaper: Reaper | None = None

    def post(self, function: Callable[[Any, int], None], target: Any, number: int = 0) -> None:
        """Add a command, and signal it if nobody has been told yet."""
        if self._reaper is not None:
            self._reaper.post((function, target, number))
            return
        self.commands.append((function, target, number))
        if self._descriptor >= 0 and not self._signalled:
            os.eventfd_write(self._descriptor, 1)
            self._signalled = True

    def process(self) -> None:
        """Run all commands, also those that they give rise to."""
        commands = self.commands
        while commands:
            function, target, number = commands.popleft()
            function(target, number)
        if self._signalled:
            os.eventfd_read(self._descriptor)
            self._signalled = False

    def fileno(self) -> int:
        """ZMQ_FD. Most simulated sockets are never asked for it, so it is made when somebody does."""
        if self._descriptor < 0:
            self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            if self.commands:
                os.eventfd_write(self._descriptor, 1)
                self._signalled = True
        return self._descriptor

    def close(self, reaper: Reaper) -> None:
        """Leave what is here, and all that is still to come, to the reaper."""
        waiting = tuple(self.commands)
        self.commands.clear()
        self._reaper = reaper
        reaper.post(*waiting)  # all at once: what these give rise to comes after them
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._signalled = False
