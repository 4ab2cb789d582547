"""Metrics of a daemon's reloads."""

import time

from prometheus_client.parser import text_string_to_metric_families as parse_text

from pollbroker.daemon import Daemon
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.addresses import free_address
from tests.support.http import get

HTTP = "[engine]\nhttp = '127.0.0.1:0'\n"


def reload_metrics(daemon: Daemon) -> tuple[float, float]:
    """Whether the last reload was successful, and when one was."""
    assert daemon.servers.http_address is not None
    text = get(daemon.servers.http_address, "/metrics")
    found = {one.name: one.samples[0].value for one in parse_text(text) if one.name.startswith("pollbroker_config")}
    return (
        found["pollbroker_config_last_reload_successful"],
        found["pollbroker_config_last_reload_success_timestamp_seconds"],
    )


def test_success_and_time_of_the_last_reload_are_told(write: Write, start_daemon: StartDaemon) -> None:
    begun_s = time.time()
    daemon = start_daemon(write(HTTP + streamer("a")))
    successful, started_s = reload_metrics(daemon)
    assert successful == 1
    assert begun_s <= started_s <= time.time()

    write("wrong = 1")
    assert daemon.reload().problems
    assert reload_metrics(daemon) == (0, started_s)

    write(HTTP + streamer("a") + streamer("b"))
    assert not daemon.reload().problems
    successful, reloaded_s = reload_metrics(daemon)
    assert successful == 1
    assert started_s < reloaded_s <= time.time()


def test_reload_after_which_a_broker_could_not_begin_was_not_successful(
    write: Write, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(write(HTTP + streamer("a")))
    titanic = f"[brokers.b]\ndevice = 'titanic'\nfrontend = '{free_address()}'\nsettings = {{ path = 'none/b.db' }}"
    write(HTTP + streamer("a") + titanic)
    assert daemon.reload().problems
    assert reload_metrics(daemon)[0] == 0
