"""Starts several daemons at the same moment, once for each line on stdin:
`python -m tests.daemon.starting_together COUNT ARGUMENT...`.

Processes that are started one after the other begin milliseconds apart. So this one imports what they need, forks them,
and opens a gate that all of them wait at. Each writes into the files `NUMBER.out` and `NUMBER.err`. Their process
numbers are printed, and the exit code of each comes into the file `PROCESS.code`.
"""

import os
import sys
from pathlib import Path

from pollbroker.cli import main, serving  # noqa: F401 - imported before the gate is opened
from pollbroker.daemon import running  # noqa: F401


def start(count: int, arguments: list[str]) -> None:
    """Start so many processes of a command, and wait until all have ended."""
    gate, opens = os.pipe()
    for number in range(count):
        process = os.fork()
        if not process:
            os.close(opens)
            for name, descriptor in (("out", 1), ("err", 2)):
                os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            os.read(gate, 1)
            main(arguments)
        print(process, flush=True)
    os.close(opens)
    for _ in range(count):
        process, status = os.wait()
        code = Path(f"{process}.code.new")
        code.write_text(str(os.waitstatus_to_exitcode(status)))
        code.rename(f"{process}.code")


if __name__ == "__main__":
    while sys.stdin.readline():
        start(int(sys.argv[1]), sys.argv[2:])
