"""A browser, and an engine with traffic for it to look at."""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Engine
from pollbroker.metrics import MetricsServer, serve_metrics
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect

TOKEN = "a-token-of-a-test"

PATIENCE_S = 90.0


class Browser:
    """A browser that shows one page."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        for one in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(one)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def emulate(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The visible text of the first element, or nothing if there is none."""
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        assert isinstance(found, str)
        return found

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, longer than other tests do: a browser needs a core of its own, and may not have it."""
        pause, end_s = threading.Event(), time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"it did not come true within {PATIENCE_S:g} s"
            pause.wait(0.1)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The text of what has the focus, without what is said of it."""
        found = self.run("return document.activeElement.textContent.trim() || document.activeElement.id")
        assert isinstance(found, str)
        return found

    def messages(self) -> list[str]:
        """What the console says, but for answers that did not come."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [one for one in said if not re.search(r"net::ERR_|status of 401", one)]

    def asked(self) -> set[str]:
        """The addresses of all requests since this was called last."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser, server: MetricsServer, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """It leaves the page before the server ends. At the end nothing may have been said in the console."""
    chromium.emulate()
    chromium.messages()
    chromium.asked()
    yield chromium
    directory = os.environ.get("POLLBROKER_TEST_SCREENSHOTS")
    if directory is not None:
        chromium.driver.save_screenshot(str(Path(directory) / f"{request.node.name}.png"))
    messages = chromium.messages()
    chromium.driver.get("about:blank")
    assert messages == []


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running


@pytest.fixture
def server(engine: Engine) -> Iterator[MetricsServer]:
    with serve_metrics(engine, "127.0.0.1:0", token=TOKEN) as serving:
        yield serving


@pytest.fixture
def brokers(engine: Engine, connect: Connect) -> Callable[[], None]:
    """Three brokers: `orders` is idle, `jobs` is stalled, `prices` has a subscriber. The function that is returned lets
    `prices` move messages."""
    engine.add("orders", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    jobs = engine.add("jobs", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    connect(zmq.PUSH, endpoint(jobs.frontend)).send(b"nobody takes this")
    prices = engine.add("prices", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    publisher, subscriber = connect(zmq.PUB, endpoint(prices.frontend)), connect(zmq.SUB, endpoint(prices.backend))
    subscriber.subscribe(b"")
    wait_until(lambda: engine.broker_statistics("prices").flows["backend"].sent > 0)

    def move() -> None:
        for _ in range(20):
            publisher.send(b"1")

    return move


@pytest.fixture
def page(browser: Browser, server: MetricsServer) -> Browser:
    """The page, with its first figures."""
    return show(browser, server)


def show(browser: Browser, server: MetricsServer) -> Browser:
    browser.driver.get(f"http://{server.address}/")
    browser.wait(lambda: browser.text("#status") == "Live")
    return browser
