"""`python -m pollbroker.testing.relay module:function device situation seed deadline_s`: one situation, one verdict.

Prints one line of JSON and ends at once, even if a relay has left threads running.
"""

import json
import os
import sys

from pollbroker.testing.relay.checking import KEPT, find_relay, judge, play, resolve_device
from pollbroker.testing.violation import InvariantViolation


def main(start: str, device: str, situation: str, seed: str, deadline_s: str) -> None:
    """Run the relay in the situation and print the verdict."""
    verdict = KEPT
    try:
        judge(play(find_relay(start), resolve_device(device), situation, seed=int(seed), deadline_s=float(deadline_s)))
    except InvariantViolation as violation:
        verdict = str(violation)
    sys.stdout.write(json.dumps({"verdict": verdict}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
