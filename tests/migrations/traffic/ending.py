"""Ends every process that runs a command of this virtual environment.

A test of others may have left one in a session of its own, and without a parent.
"""

import sys

import psutil


def main() -> None:
    """End them, but for this process."""
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process != psutil.Process() and (process.info["cmdline"] or [""])[0].startswith(f"{sys.prefix}/")
    ]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)


if __name__ == "__main__":
    main()
