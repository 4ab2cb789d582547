"""A daemon in a process of its own, and how long it keeps its traffic waiting: for `questions/many_brokers.py`.

    python -m bench.many_brokers FILE

It starts the daemon of a file, says so in a line of JSON, and runs its engine turn by turn. For each line of its input
it tells the longest turn since the last one, in CPU time, which does not depend on what else the machine does. At the
end of its input it ends the brokers.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

from pollbroker.cli.serving import making_what_stays
from pollbroker.daemon import Daemon


def main() -> None:
    daemon = Daemon(Path(sys.argv[1]))
    try:
        with making_what_stays():
            daemon.start()
        servers = daemon.servers
        _tell(ready_cpu_s=time.process_time(), control=servers.control_endpoints[0], http=servers.http_address)
        longest_s = 0.0
        while True:
            begun_s = time.thread_time()
            daemon.engine.step(0.05)
            longest_s = max(longest_s, time.thread_time() - begun_s)
            if select.select([sys.stdin], [], [], 0)[0]:
                if not sys.stdin.readline():
                    break
                _tell(longest_turn_ms=1000 * longest_s)
                longest_s = 0.0
        begun_s = time.process_time()
        daemon.end()
        _tell(end_cpu_s=time.process_time() - begun_s)
    finally:
        daemon.close()


def _tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
