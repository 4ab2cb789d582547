"""The files of deploy/: units, manifests and the container."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pollbroker.daemon import read_checked
from tests.support.deadline import DEADLINE_S
from tests.support.tree import TREE

DEPLOY = TREE / "deploy"
UNITS = DEPLOY / "systemd"
MANIFEST = DEPLOY / "kubernetes/pollbroker.yaml"

EXPOSURE_MOST = 1.5
"""systemd-analyze security: 0 is an isolated service, 10 is one without limits."""

has_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def analyzed(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return done.stdout + done.stderr


def settings(unit: Path) -> dict[str, str]:
    """The settings of a unit; of those that stand there twice, the last."""
    return dict(line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"\w+=", line))


@has_systemd
def test_units_have_no_mistake(tmp_path: Path) -> None:
    # The command is not installed where it will be.
    command = tmp_path / "pollbroker"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for unit in ("pollbroker.service", "pollbroker.socket"):
        text = (UNITS / unit).read_text().replace("/opt/pollbroker/bin/pollbroker", str(command))
        (tmp_path / unit).write_text(text)
    told = analyzed("verify", "./pollbroker.service", "./pollbroker.socket", cwd=tmp_path)
    assert [line for line in told.splitlines() if "pollbroker" in line] == []


@has_systemd
def test_service_is_exposed_as_little_as_the_page_says() -> None:
    told = analyzed("security", "--offline=true", "--no-pager", "./pollbroker.service", cwd=UNITS)
    found = re.search(r"Overall exposure level for pollbroker.service: ([\d.]+)", told)
    assert found is not None, told
    assert float(found.group(1)) <= EXPOSURE_MOST
    assert f"**{found.group(1)}**" in (TREE / "docs/howto/deploy.md").read_text()


def test_service_leaves_the_daemon_the_time_that_it_needs() -> None:
    unit = settings(UNITS / "pollbroker.service")
    assert unit["Type"] == "notify-reload"
    assert unit["Restart"] == "on-failure"
    assert "ExecReload" not in unit  # systemd sends SIGHUP itself, and waits for READY


def test_service_lets_libzmq_set_the_scheduling_of_its_threads() -> None:
    """It is among `@resources`, and libzmq ends the process without it (thread.cpp)."""
    filters = re.findall(r"^SystemCallFilter=(.*)$", (UNITS / "pollbroker.service").read_text(), re.MULTILINE)
    assert "sched_setscheduler" in filters[filters.index("~@privileged @resources") :]


def manifests() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def test_manifests_fit_each_other_and_the_daemon(tmp_path: Path) -> None:
    configuration, service, deployment = manifests()
    path = tmp_path / "brokers.toml"
    path.write_text(configuration["data"]["brokers.toml"])
    checked = read_checked(path)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain_s = checked.engine.drain_timeout_s
    (_, wait_s) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= int(wait_s) + drain_s + 5
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert checked.http is not None
    assert numbers["http"] == int(checked.http.rpartition(":")[2])
    served = {str(one).rpartition(":")[2] for one in checked.brokers["orders"].ports["frontend"].endpoints}
    assert {str(numbers["orders"])} == served
    assert {port["targetPort"] for port in service["spec"]["ports"]} == numbers.keys() - {"http"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in (DEPLOY / "Containerfile").read_text()


def test_manifests_are_those_of_kubernetes() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for manifest in manifests():
        kubernetes_validate.validate(manifest, "1.31", strict=True)


@pytest.mark.skipif(
    "POLLBROKER_TEST_CONTAINER" not in os.environ, reason="asked for by POLLBROKER_TEST_CONTAINER=IMAGE"
)
def test_container_runs_without_rights_and_ends_in_order(tmp_path: Path) -> None:
    image = os.environ["POLLBROKER_TEST_CONTAINER"]
    (tmp_path / "brokers.toml").write_text(
        "[brokers.a]\ndevice = 'queue'\nfrontend = 'tcp://*:5559'\nbackend = 'ipc:///run/pollbroker/workers'\n"
    )
    (tmp_path / "brokers.toml").chmod(0o644)
    process = subprocess.Popen(
        [
            *("podman", "run", "--rm", "--read-only", "--cap-drop", "all", "--name", f"pollbroker-{os.getpid()}"),
            *("-v", f"{tmp_path}/brokers.toml:/etc/pollbroker/brokers.toml:ro", image),
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        while b'"ready ' not in (line := process.stdout.readline()):
            assert line
        subprocess.run(["podman", "stop", f"pollbroker-{os.getpid()}"], check=True, capture_output=True)
        assert b"ended  1 broker" in process.stdout.read()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_container_is_built_with_what_the_package_needs() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    extras = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "daemon" in extras
    assert "[daemon]" in text
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)


@pytest.mark.parametrize("name", [".containerignore", "deploy/Containerfile.dockerignore"])
def test_container_is_not_built_of_what_was_made_in_the_tree(name: str) -> None:
    """A native module that was compiled for this machine would be taken for that of the container. Docker reads one of
    these files, podman and buildah read the other one."""
    lines = (TREE / name).read_text().splitlines()
    assert {".git", ".venv", "build", "dist", "**/*.so", "**/*.egg-info", ".hypothesis", ".*_cache"} <= set(lines)
    other = {".containerignore", "deploy/Containerfile.dockerignore"} - {name}
    told = (TREE / other.pop()).read_text().splitlines()
    assert [line for line in lines if line[0] != "#"] == [line for line in told if line[0] != "#"]
