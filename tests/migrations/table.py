"""The programs: which version, which of its lines runs a device, and which of its tests are run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Program:
    """A program of others that runs a device.

    Attributes:
        name: its name on PyPI.
        version: the version that is installed.
        line: the line that runs the device today.
        tests: the arguments of pytest for the tests that are run; without any, only the traffic is compared.
        tests_in_sdist: True if the tests are in the sdist and not in the wheel.
        requirements: what the tests need beyond pytest.
    """

    name: str
    version: str
    line: str
    tests: tuple[str, ...] = ()
    tests_in_sdist: bool = False
    requirements: tuple[str, ...] = ()


PROGRAMS: Final[Mapping[str, Program]] = {
    program.name: program
    for program in (
        Program(
            "ipyparallel",
            "9.2.0",
            "controller/app.py: mq_class = Unicode('zmq.devices.ProcessMonitoredQueue')",
            tests=(
                *("--asyncio-mode=auto", "--pyargs", "ipyparallel.tests.test_client", "ipyparallel.tests.test_view"),
                *("ipyparallel.tests.test_lbview", "ipyparallel.tests.test_view_broadcast"),
                "ipyparallel.tests.test_cluster",
            ),
            requirements=("pytest-asyncio==1.5.0", "testpath==0.6.0"),
        ),
        Program(
            "bluesky",
            "1.15.1",
            "callbacks/zmq.py: zmq.device(zmq.FORWARDER, self._frontend, self._backend)",
            tests=("--pyargs", "bluesky.tests.test_zmq", "bluesky.tests.test_zmq_proxy_cli"),
            requirements=("multiprocess", "pytest-mock", "ophyd", "matplotlib"),
        ),
        Program(
            "easypubsub",
            "0.4.3",
            "proxy.py: self._proxy = zmq.devices.ThreadProxySteerable(...)",
            tests=("tests",),
            tests_in_sdist=True,
        ),
        Program(
            "pyleco",
            "0.6.0.post1",
            "coordinators/proxy_server.py: zmq.proxy_steerable(p, s, capture=c)",
            tests=("tests/coordinators", "tests/acceptance_tests"),
            tests_in_sdist=True,
        ),
        Program(
            "zprocess",
            "3.0.0",
            "process_tree.py: zmq.proxy(self.sock, self.sock); cryptoproxy.py: zmq.proxy(client_facing, server_facing)",
            tests=("-o", "addopts=", "tests/test_zprocess.py"),
            tests_in_sdist=True,
        ),
        Program("aiperf", "0.13.0", "zmq/zmq_proxy_base.py: asyncio.to_thread(zmq.proxy_steerable, ...)"),
        Program("salt", "3008.4", "transport/zeromq.py: zmq.device(zmq.QUEUE, self.clients, self.workers)"),
    )
}
