"""The dashboard for Grafana and the alerts for Prometheus in deploy/: each name in them is one of a metric.

With promtool and prometheus on the PATH (of Debian's packages of these names), the first checks them, and the second
scrapes a daemon.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from pollbroker import Engine
from pollbroker.daemon.reload_metrics import ReloadCollector
from pollbroker.daemon.reload_outcome import ReloadOutcome
from pollbroker.metrics import EngineCollector
from tests.support.addresses import ANY_PORT
from tests.support.commands import Command
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.http import ask, get
from tests.support.tree import TREE
from tests.support.types import Connect

DEPLOY = TREE / "deploy"
DASHBOARD = DEPLOY / "grafana/pollbroker.json"
RULES = DEPLOY / "prometheus/pollbroker.rules.yml"
RULES_TEST = DEPLOY / "prometheus/pollbroker.rules.test.yml"
SCRAPE = DEPLOY / "prometheus/prometheus.yml"

NAME = re.compile(r"\b(?:pollbroker|process)_\w+|\bup\b")
"""What names a metric in an expression."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of Debian's package promtool"
)


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression of the dashboard and of the rules, with what it is for."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    rules = RULES.read_text()
    yield from re.findall(r"- alert: (\w+)\n +expr: (.+)\n", rules)


def sample_names(family: Metric) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    return {family.name + suffix for suffix in suffixes.get(family.type, ("",))}


@pytest.fixture
def known(engine: Engine) -> set[str]:
    """The names of all samples that a daemon has."""
    process = CollectorRegistry()
    families = [
        *EngineCollector(engine).collect(),
        *ReloadCollector(ReloadOutcome()).collect(),
        *ProcessCollector(registry=process).collect(),
    ]
    return {name for family in families for name in sample_names(family)} | {"up"}


def test_every_metric_of_the_dashboard_and_of_the_alerts_exists(known: set[str]) -> None:
    used = [(what, name) for what, expression in expressions() for name in NAME.findall(expression)]
    assert len(used) > 30
    assert [(what, name) for what, name in used if name not in known] == []


def test_dashboard_shows_every_metric_of_brokers(known: set[str]) -> None:
    used = {name for _, expression in expressions() for name in NAME.findall(expression)}
    assert {name for name in known if name.startswith("pollbroker_")} <= used


def test_every_alert_is_tested() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = re.findall(r"alertname: (\w+)", RULES_TEST.read_text())
    assert len(alerts) > 5
    assert {alert for alert in alerts if tested.count(alert) < 2} == set()


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} is above {taken[x, y]}"
                assert x < 24
                taken[x, y] = panel["title"]


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [["check", "rules", RULES.name], ["check", "config", SCRAPE.name], ["test", "rules", RULES_TEST.name]],
    ids=" ".join,
)
def test_promtool_finds_no_fault_with_the_rules(command: list[str]) -> None:
    checked = subprocess.run(
        ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, timeout=6 * DEADLINE_S, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_prometheus_scrapes_a_daemon(tmp_path: Path, connect: Connect) -> None:
    text = f"[engine]\nhttp = '127.0.0.1:0'\n[brokers.a]\ndevice = 'streamer'\nfrontend = '{ANY_PORT}'\n"
    (tmp_path / "brokers.toml").write_text(text + f"backend = '{ANY_PORT}'\n")
    daemon = Command("run", str(tmp_path / "brokers.toml"))
    try:
        addresses = daemon.addresses()
        (http,) = [line.split()[1] for line in daemon.lines if line.startswith("http ")]
        connect(zmq.PUSH, addresses["frontend"]).send(b"through")
        assert connect(zmq.PULL, addresses["backend"]).recv() == b"through"
        config = SCRAPE.read_text().replace("127.0.0.1:9464", http).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        shutil.copy(RULES, tmp_path)
        log = tmp_path / "prometheus.log"
        with log.open("wb") as output:
            prometheus = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/data",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=output,
                stderr=output,
            )
        try:
            found: list[str] = []

            def listens() -> bool:
                found[:] = re.findall(r'msg="Listening on" address=(\S+)', log.read_text())
                return bool(found) or prometheus.poll() is not None

            wait_until(listens, deadline_s=60)  # another program, which waits for its disk
            assert prometheus.poll() is None, log.read_text()
            wait_until(lambda: ask(found[0], "/-/ready")[0] == 200)

            def has_scraped() -> bool:
                answer = json.loads(get(found[0], "/api/v1/query?query=pollbroker_sent_messages_total"))
                return any(one["value"][1] == "1" for one in answer["data"]["result"])

            wait_until(has_scraped)
            rules = json.loads(get(found[0], "/api/v1/rules"))["data"]["groups"][0]["rules"]
            assert len(rules) == RULES.read_text().count("- alert:")
        finally:
            prometheus.terminate()
            prometheus.wait(DEADLINE_S)
    finally:
        daemon.kill()
