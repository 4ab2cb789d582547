"""What the page shows, and how it can be used, in a real browser."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

if "POLLBROKER_TEST_BROWSER" not in os.environ:
    pytest.skip("asked for by POLLBROKER_TEST_BROWSER=1", allow_module_level=True)

import zmq
from selenium.webdriver.common.keys import Keys

from pollbroker import QUEUE, STREAMER, Engine, Route
from pollbroker.metrics import MetricsServer, serve_metrics
from tests.browser.conftest import TOKEN, Browser, show
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.types import Connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONTRAST = """
const channel = (one) => (one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(getComputedStyle(at).backgroundColor);
    if (found.length === 3) return found;
  }
  return [255, 255, 255];
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data.trim()).join("");
  const unseen = element.closest("[hidden], style, script, noscript, dialog:not([open])");
  if (!own || unseen || !element.getClientRects().length) continue;
  const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${own}: ${ratio.toFixed(2)}`);
}
return low;
"""
"""Texts whose contrast is lower than WCAG 2 asks for at level AA."""


def card(name: str) -> str:
    return f'[id="broker-{name}"]'


def appears(browser: Browser, selector: str, text: str) -> None:
    browser.wait(lambda: text in browser.text(selector))


def test_brokers_are_shown_with_their_traffic(page: Browser, brokers: Callable[[], None]) -> None:
    def has_rate() -> bool:
        brokers()
        state = page.run(f"return document.querySelector('{card('prices')} .flow')?.dataset.state")
        return bool(state == "flows")

    page.wait(has_rate)
    assert page.text("#sum-brokers") == "3"
    assert "1 peer" in page.text(card("prices"))
    assert "ROUTER" in page.text(card("orders"))
    label = page.run(f"return document.querySelector('{card('prices')} .history').getAttribute('aria-label')")
    assert label.startswith("Messages taken by prices in the last 2 minutes: now ")
    assert page.run(f"return document.querySelector('{card('orders')} .flow').dataset.state") == "idle"


def test_stalled_flow_is_marked_by_text_and_by_shape(page: Browser, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")
    style = f"return getComputedStyle(document.querySelector('{card('jobs')} .line .stop')).display"
    assert page.run(style) == "inline"
    assert page.text("#sum-stalled").endswith("1")
    appears(page, "#events", "jobs stalls")
    assert page.run("return document.title").startswith("▲")


def test_dropped_messages_are_shown_with_their_rule(page: Browser, engine: Engine, connect: Connect) -> None:
    def refuse(frames: list[bytes]) -> list[bytes]:
        raise ValueError("a handler that fails")

    device = replace(STREAMER, routes=(Route("frontend", "backend", via=refuse),))
    broker = engine.add("picky", device, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend))

    def is_marked() -> bool:
        push.send(b"x")
        return "drops" in page.text(f"{card('picky')} .flow") and "picky drops messages" in page.text("#events")

    page.wait(is_marked)
    assert "dropped: failed" in page.text(card("picky"))
    assert page.run(f"return document.querySelector('{card('picky')}').dataset.level") == "bad"


def test_states_are_shown(page: Browser, engine: Engine, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('orders')} .state", "running")
    engine.pause("orders")
    appears(page, f"{card('orders')} .state", "paused")
    engine.resume("orders")
    engine.disable("orders")
    appears(page, f"{card('orders')} .state", "running, disabled")
    appears(page, "#events", "orders was paused")
    assert "1 disabled" in page.text("#sum-brokers")
    engine.remove("jobs", timeout_s=0)
    page.wait(lambda: page.text(card("jobs")) == "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_both_schemes(page: Browser, brokers: Callable[[], None], scheme: str) -> None:
    page.emulate(scheme=scheme)
    appears(page, f"{card('jobs')} .flow", "stalled")
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 200) == (scheme == "dark")
    assert page.run(CONTRAST) == []
    page.run("document.getElementById('steer').click()")
    assert page.run(CONTRAST) == []
    page.press(Keys.ESCAPE)


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_is_wider_than_a_phone(page: Browser, brokers: Callable[[], None], engine: Engine, width: int) -> None:
    engine.add(
        "a-broker-with-a-name-that-is-much-longer-than-a-phone-is-wide", QUEUE, frontend=ANY_PORT, backend=ANY_PORT
    )
    page.emulate(width, 640)
    appears(page, f"{card('jobs')} .flow", "stalled")
    assert page.run("return document.documentElement.scrollWidth") == width
    page.run("document.getElementById('as-table').click()")
    assert page.run("return document.documentElement.scrollWidth") == width


def test_brokers_are_steered_by_keyboard_alone(page: Browser, engine: Engine, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")

    def tab_to(text: str) -> None:
        for _ in range(40):
            page.press(Keys.TAB)
            if page.focused() == text:
                return
        pytest.fail(f"{text!r} cannot be reached by Tab")

    tab_to("Steer")
    page.press(Keys.ENTER)
    page.press("wrong-wrong-wrong", Keys.ENTER)
    appears(page, "#wrong", "This is not the token.")
    page.press(TOKEN, Keys.ENTER)  # what was wrong is selected
    appears(page, "#steer", "Stop steering")
    page.press("/", "orders")
    page.wait(lambda: page.text("#count") == "1 of 3 are shown")
    tab_to("Pause orders")
    page.press(Keys.ENTER)
    page.wait(lambda: engine.brokers["orders"].state == "paused")
    appears(page, "#said", "orders is paused.")
    appears(page, f"{card('orders')} .steering", "Resume")
    assert page.focused() == "Resume orders"
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.press(Keys.ENTER)
    page.wait(lambda: engine.brokers["orders"].state == "running")
    stored = page.run("return [localStorage.length, sessionStorage.length, document.cookie, location.href]")
    assert stored[:3] == [0, 0, ""]
    assert TOKEN not in stored[3]


def test_table_has_the_same_figures(page: Browser, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")
    page.run("document.getElementById('as-table').click()")
    appears(page, "#rows", "❙ frontend")
    rows = page.run("return [...document.querySelectorAll('#rows tr')].map((row) => row.cells[0].textContent)")
    assert rows == ["orders", "jobs", "prices"]
    assert page.run("return document.querySelector('#cards').hidden") is True


def test_page_asks_nobody_else(page: Browser, server: MetricsServer, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")
    asked = {one for one in page.asked() if not one.startswith(("data:", "about:"))}
    assert {one.partition("?")[0] for one in asked} == {
        f"http://{server.address}/{path}" for path in ("", "statz", "eventz")
    }


def test_name_of_a_broker_is_text_and_nothing_else(page: Browser, engine: Engine) -> None:
    name = "<img src=x onerror=alert(1)>"
    engine.add(name, QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    page.wait(lambda: page.run("return document.querySelector('.broker h3')?.textContent") == name)
    engine.pause(name)
    appears(page, "#events", "was paused")
    assert page.run("return document.querySelectorAll('main img').length") == 0


def test_page_says_when_the_daemon_has_ended(page: Browser, server: MetricsServer, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")
    server.close()
    appears(page, "#banner", "The daemon does not answer. This page goes on trying.")
    assert page.text("#status") == "No answer"
    appears(page, "#age", "old")
    assert "stalled" in page.text(card("jobs"))  # the last figures stay


def test_page_stays_usable_with_many_brokers(browser: Browser, engine: Engine, server: MetricsServer) -> None:
    for number in range(300):
        engine.add(f"tenant-{number:03}", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
    show(browser, server)
    assert "600 ports" in browser.text("#ask-why")
    assert not server.events.listening
    drawn = browser.run(
        "return [...document.querySelectorAll('.broker')].filter((one) => one.querySelector('.port')).length"
    )
    assert 0 < drawn < 50
    browser.press("/", "tenant-299")
    appears(browser, card("tenant-299"), "ROUTER")
    assert browser.text("#count") == "1 of 300 are shown"
    browser.press(Keys.ESCAPE)
    browser.run("document.getElementById('as-table').click()")
    appears(browser, "#rows-limit", "The first 200 of 300")
    browser.run("document.getElementById('follow').click()")
    browser.wait(lambda: server.events.listening)


def test_controls_have_names_in_the_accessibility_tree(page: Browser, brokers: Callable[[], None]) -> None:
    appears(page, f"{card('jobs')} .flow", "stalled")
    page.command("Accessibility.enable")
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    page.command("Accessibility.disable")
    found: dict[str, set[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            found.setdefault(node["role"]["value"], set()).add(node.get("name", {}).get("value", ""))
    assert found["searchbox"] == {"Filter"}
    assert {"Which brokers", "Which events"} <= found["combobox"]
    assert {"Steer", "Picture", "Table"} <= found["button"]
    assert {"Brokers", "Events", "orders", "jobs", "prices"} <= found["heading"]
    assert {"main", "banner"} <= found.keys()
    for role in ("button", "searchbox", "combobox", "link", "image", "region", "table"):
        assert "" not in found.get(role, set()), role
    text = page.run(f"return document.querySelector('{card('jobs')}').textContent")
    assert "frontend to backend: " in text


@pytest.mark.skipif("POLLBROKER_TEST_AXE" not in os.environ, reason="asked for by POLLBROKER_TEST_AXE=axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(page: Browser, brokers: Callable[[], None], scheme: str) -> None:
    page.emulate(scheme=scheme)
    appears(page, f"{card('jobs')} .flow", "stalled")
    page.run(Path(os.environ["POLLBROKER_TEST_AXE"]).read_text())
    found: Any = page.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations']}).then((found) => done(found.violations))"
    )
    faults = [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
    assert faults == []


def test_page_comes_back_when_the_daemon_does(page: Browser, engine: Engine, server: MetricsServer) -> None:
    server.close()
    appears(page, "#status", "No answer")
    with serve_metrics(engine, server.address):
        page.wait(lambda: page.text("#status") == "Live")
        assert page.run("return document.getElementById('banner').hidden") is True
