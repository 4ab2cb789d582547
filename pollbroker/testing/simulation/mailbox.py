"""Mailboxes: how one socket tells another that something has changed, and what ZMQ_FD shows of that.

Rules, which are libzmq's (mailbox.cpp, reaper.cpp):

- A command takes effect when its socket processes the mailbox, and not before.
- ZMQ_FD is readable from the moment a command arrives at an empty mailbox until all commands are processed. So it says
  that something *has* happened; reading ZMQ_EVENTS processes the commands and makes it unreadable again.
- A closed socket processes commands until its peers have disconnected. In libzmq the reaper thread does that. Here each
  command is processed as soon as it is posted, but never inside of another such command.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

Command: TypeAlias = tuple[Callable[[Any, int], None], Any, int]
"""A function and its two arguments: the pipe or socket that it is for, and a number."""


class Reaper:
    """Runs the commands that are posted to closed sockets."""

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
        """Add a command, and make the descriptor readable if it is not yet."""
        if self._reaper is not None:
            self._reaper.post((function, target, number))
            return
        self.commands.append((function, target, number))
        if self._descriptor >= 0 and not self._signalled:
            os.eventfd_write(self._descriptor, 1)
            self._signalled = True

    def process(self) -> None:
        """Run all commands, including those that are posted meanwhile."""
        commands = self.commands
        while commands:
            function, target, number = commands.popleft()
            function(target, number)
        if self._signalled:
            os.eventfd_read(self._descriptor)
            self._signalled = False

    def fileno(self) -> int:
        """The descriptor ZMQ_FD. It is made at the first call, because most simulated sockets are never asked for
        it."""
        if self._descriptor < 0:
            self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            if self.commands:
                os.eventfd_write(self._descriptor, 1)
                self._signalled = True
        return self._descriptor

    def close(self, reaper: Reaper) -> None:
        """Hand over the commands that are here, and all that are still to come, to the reaper."""
        waiting = tuple(self.commands)
        self.commands.clear()
        self._reaper = reaper
        reaper.post(*waiting)  # all in one call, so that commands which they post come after them
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._signalled = False
