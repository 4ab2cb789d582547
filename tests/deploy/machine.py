"""A machine with a systemd of its own: namespaces of this one, over whose files it writes nothing.

It needs root, and a Linux that lets root make namespaces. Processes in it have this machine's network.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.deadline import DEADLINE_S, wait_until

BOOT_S: Final = 30.0
INSTALL_S: Final = 300.0

WRITTEN: Final = ("etc", "opt", "usr/local", "var")
"""Directories of the machine that it writes to: layers over those of this one."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Root's own: what is in somebody's home is hidden from a service."""

NAMESPACES: Final = ("-m", "-p", "-u", "-i", "-C", "-f", "--mount-proc", "--kill-child")

BOOT: Final = f"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
for directory in {" ".join(WRITTEN)}; do
    mkdir -p /run/layers/$directory/upper /run/layers/$directory/work
    layers=lowerdir=/$directory,upperdir=/run/layers/$directory/upper,workdir=/run/layers/$directory/work
    mount -t overlay overlay -o $layers /$directory
done
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/system
printf '[Unit]\\nDefaultDependencies=no\\nWants=systemd-journald.service\\n' > /run/systemd/system/machine.target
exec env container=other /lib/systemd/systemd --system --unit=machine.target --log-target=null
"""


def why_there_is_none() -> str | None:
    """Why there can be no such machine here; None if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it takes root on Linux"
    missing = [tool for tool in ("unshare", "nsenter", "systemctl") if shutil.which(tool) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"there is no systemd, or no {', '.join(missing)}"
    able = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    python = shutil.which("python3", path=PATH)
    if python is None or subprocess.run([python, "-c", able], capture_output=True, check=False).returncode:
        return "every user's python3 is too old, or has no ensurepip (Debian's package is python3-venv)"
    trial = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs tmpfs /run"
    tried = subprocess.run(["unshare", *NAMESPACES, "sh", "-c", trial], capture_output=True, text=True, check=False)
    return f"namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else None


class Machine:
    """In the block of a `with` it runs."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._booting = subprocess.Popen(
                ["unshare", *NAMESPACES, "sh", "-c", BOOT],
                stdin=subprocess.DEVNULL,
            )
            stack.callback(self._booting.wait)
            stack.callback(self._booting.kill)
            self._wait_until_it_runs()
            self._end = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()

    def _wait_until_it_runs(self) -> None:
        end_s = time.monotonic() + BOOT_S
        children = Path(f"/proc/{self._booting.pid}/task/{self._booting.pid}/children")
        wait_until(lambda: children.read_text() or self._booting.poll() is not None)
        self._first = children.read_text().strip()
        while self.run("systemctl", "is-system-running", check=False).strip() not in ("running", "degraded"):
            assert self._booting.poll() is None, "systemd has ended"
            assert time.monotonic() < end_s, "systemd does not run"

    def run(self, *command: str, check: bool = True, timeout_s: float = DEADLINE_S) -> str:
        """What a command prints that runs in the machine."""
        enter = ("env", f"PATH={PATH}", "nsenter", "-t", self._first, "-m", "-p", "-u", "-i", "-C")
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=timeout_s, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine."""
        enter = ("nsenter", "-t", self._first, "-m", "sh", "-c", f"umask 022 && cat > '{path}'")
        subprocess.run(enter, input=text, text=True, check=True)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit (systemctl(1))."""
        return self.run("systemctl", "show", "-p", name, "--value", unit).strip()

    def journal(self, unit: str) -> str:
        """What a unit has logged."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-u", unit, "--no-pager", "-o", "cat")
