"""Every program in examples/, as a process of its own: against an engine, the command line, and serve.py.

The brokers stand at `ipc://` paths of the test's own. Every process has a deadline, and is ended with its test.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from pollbroker import Engine
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.tree import TREE

EXAMPLES = TREE / "examples"

Process: TypeAlias = subprocess.Popen[str]
Start: TypeAlias = Callable[..., Process]
Serve: TypeAlias = Callable[[str], None]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python process: `start(*arguments)`, of which the first is a file in examples/ or an option."""
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        program = [] if arguments[0].startswith("-") else [str(EXAMPLES / arguments[0])]
        command = [sys.executable, "-u", "-W", "error", *program, *arguments[len(program) :]]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=DEADLINE_MS / 1000)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A display for windows: that of the environment, or a virtual one."""
    pytest.importorskip("tkinter", reason="this Python was built without tkinter")
    if "DISPLAY" in os.environ:
        yield
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no display, and Xvfb is not installed: apt-get install xvfb")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    try:
        with os.fdopen(read) as told:
            monkeypatch.setenv("DISPLAY", f":{told.readline().strip()}")
        yield
    finally:
        server.terminate()
        server.wait(DEADLINE_MS / 1000)


def lines_of(process: Process, end_it_by: signal.Signals | None = None) -> list[str]:
    """What a process prints until it ends, in good order and without a complaint."""
    if end_it_by is not None:
        process.send_signal(end_it_by)
    output, complaint = process.communicate(timeout=DEADLINE_MS / 1000)
    assert complaint == ""
    assert process.returncode == 0
    return output.splitlines()


@pytest.fixture
def frontend(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/frontend"


@pytest.fixture
def backend(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/backend"


def wait_for_broker(process: Process, *endpoints: str) -> None:
    """Wait until a broker's process has bound its `ipc://` endpoints."""
    paths = [Path(endpoint.removeprefix("ipc://")) for endpoint in endpoints]
    wait_until(lambda: all(path.exists() for path in paths) or process.poll() is not None)
    if process.returncode is not None:
        pytest.fail(f"the broker has ended: {process.communicate()}")


@pytest.fixture(params=["engine", "command", "serve.py"])
def serve(request: pytest.FixtureRequest, start: Start, frontend: str, backend: str) -> Iterator[Serve]:
    """Starts a broker at the two endpoints, in each of the ways that there are; it must end in good order."""
    with ExitStack() as ends:

        def serve(device: str) -> None:
            if request.param == "engine":
                ends.enter_context(Engine()).add(device, device, frontend=frontend, backend=backend)
                return
            program = ["-m", "pollbroker"] if request.param == "command" else ["serve.py"]
            process = start(*program, device, frontend, backend)
            wait_for_broker(process, frontend, backend)
            ends.callback(lines_of, process, signal.SIGTERM)

        yield serve


def test_every_example_is_run_here() -> None:
    started = set(re.findall(r'start\("(\w+\.py)"', Path(__file__).read_text()))
    assert started | {"serve.py"} == {path.name for path in EXAMPLES.glob("*.py")}


def test_every_example_is_in_the_readme() -> None:
    named = set(re.findall(r"examples/(\w+\.py)", (EXAMPLES / "README.md").read_text()))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}


def test_without_the_arguments_they_need_they_say_how_they_are_used(start: Start) -> None:
    run_without = {"asyncio_engine.py", "custom_device.py", "load_balancer.py", "many_devices.py", "own_poller.py"}
    run_without |= {"balancer.py", "sharder.py", "paranoid_pirate.py"}
    run_without |= {"clone.py", "last_value.py", "majordomo.py", "titanic.py"}
    run_without |= {f"{loop}_engine.py" for loop in ("gevent", "qt", "tkinter", "tornado")}
    names = {path.name for path in EXAMPLES.glob("*.py")} - run_without
    for name, process in {name: start(name) for name in names}.items():
        output, usage = process.communicate(timeout=DEADLINE_MS / 1000)
        assert output == ""
        assert f"\npython examples/{name} " in usage
        assert process.returncode == 1


def test_requests_are_answered(serve: Serve, start: Start, frontend: str, backend: str) -> None:
    serve("queue")
    worker = start("respond.py", backend, "3")
    client = start("request.py", frontend, "3")
    assert lines_of(client) == [f"question {number}: the answer to question {number}" for number in range(3)]
    assert lines_of(worker) == [f"answered question {number}" for number in range(3)]


def test_both_sides_connect_and_may_come_before_the_queue(
    serve: Serve, start: Start, frontend: str, backend: str
) -> None:
    program = start("both_connect.py", frontend, backend)
    assert program.stdout is not None
    first = program.stdout.readline()
    serve("queue")
    assert first.startswith("client: connected, and has asked")
    assert lines_of(program) == [
        "worker: connected, and was asked 'Is anybody there?'",
        "client: was answered 'Yes, since just now.'",
    ]


def test_several_workers_share_the_requests_of_one_client(
    serve: Serve, start: Start, frontend: str, backend: str
) -> None:
    serve("queue")
    lines = lines_of(start("many_workers.py", frontend, backend, "9"))
    replies, sums = lines[:-3], lines[-3:]
    assert len(replies) >= 9
    assert sorted(int(reply.split()[-1]) for reply in replies) == list(range(len(replies)))
    by = [reply.split(" answers ")[0] for reply in replies]
    assert set(by) == {"worker 0", "worker 1", "worker 2"}
    assert sums == [f"{worker}: {by.count(worker)} answers" for worker in sorted(set(by))]


def test_only_what_somebody_subscribed_to_crosses_a_forwarder(
    serve: Serve, start: Start, frontend: str, backend: str
) -> None:
    serve("forwarder")
    publisher = start("publish.py", frontend, "6")
    subscriber = start("subscribe.py", backend, "weather", "3")
    assert lines_of(subscriber) == ["weather: report 0", "weather: report 2", "weather: report 4"]
    published = lines_of(publisher)
    assert published[0] == "somebody subscribed to weather"
    assert [line for line in published if line.startswith("published")] == [
        f"published {'traffic' if number % 2 else 'weather'}: report {number}" for number in range(6)
    ]


def test_a_filter_without_a_list_lets_everything_through(
    serve: Serve, start: Start, frontend: str, backend: str
) -> None:
    serve("filter")
    subscriber = start("subscribe.py", backend, "", "4")
    publisher = start("publish.py", frontend)
    received = lines_of(subscriber)
    first = int(received[0].split()[-1])  # the reports before it were published before the subscriber was there
    assert received == [
        f"{'traffic' if number % 2 else 'weather'}: report {number}" for number in range(first, first + 4)
    ]
    assert lines_of(publisher, signal.SIGINT)[0] == "somebody subscribed to everything"


@pytest.mark.parametrize("way", ["filter_topics.py", "command"])
def test_a_filter_lets_only_its_topics_through(start: Start, frontend: str, backend: str, way: str) -> None:
    if way == "command":
        broker = start("-m", "pollbroker", "filter", frontend, backend, "--topic", "traffic", "--topic", "snow")
    else:
        broker = start("filter_topics.py", frontend, backend, "traffic", "snow")
    wait_for_broker(broker, frontend, backend)
    subscriber = start("subscribe.py", backend, "", "3")
    publisher = start("publish.py", frontend)
    received = lines_of(subscriber)
    first = int(received[0].split()[-1])
    assert received == [f"traffic: report {number}" for number in range(first, first + 6, 2)]
    lines_of(publisher, signal.SIGINT)
    printed = lines_of(broker, signal.SIGTERM)
    assert way == "command" or printed == ["lets through: traffic, snow"]


def test_jobs_are_pushed_and_pulled(serve: Serve, start: Start, frontend: str, backend: str) -> None:
    serve("streamer")
    pusher = start("push.py", frontend)
    puller = start("pull.py", backend, "10")
    assert lines_of(pusher) == [f"pushed job {number}" for number in range(10)]
    assert lines_of(puller) == [f"pulled job {number}" for number in range(10)]


def test_the_engine_serves_sockets_that_the_program_opened(start: Start, frontend: str, backend: str) -> None:
    broker = start("own_sockets.py", frontend, backend)
    worker = start("respond.py", backend)
    assert len(lines_of(start("request.py", frontend))) == 10
    assert len(lines_of(worker, signal.SIGINT)) == 10
    assert lines_of(broker, signal.SIGTERM) == []


def test_serve_prints_real_addresses_and_counters(start: Start) -> None:
    broker = start("serve.py", "streamer", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
    assert broker.stdout is not None
    frontend, backend = (broker.stdout.readline().split()[-1] for _ in range(2))
    puller = start("pull.py", backend)
    lines_of(start("push.py", frontend, "7"))
    assert puller.stdout is not None
    assert [puller.stdout.readline() for _ in range(7)][-1] == "pulled job 6\n"
    lines_of(puller, signal.SIGINT)
    assert lines_of(broker, signal.SIGTERM) == ["frontend to backend: 7 messages"]


def test_many_devices_share_one_thread(start: Start) -> None:
    lines = lines_of(start("many_devices.py", "20"))
    assert lines == [
        "30 devices, 1 thread beside the main one",
        *(f"queue-{number}: frontend to backend 20, backend to frontend 20" for number in range(10)),
        *(f"forwarder-{number}: frontend to backend 20, backend to frontend 1" for number in range(10)),
        *(f"streamer-{number}: frontend to backend 20" for number in range(10)),
    ]


def test_handlers_change_drop_and_multiply_messages(start: Start) -> None:
    assert lines_of(start("custom_device.py")) == [
        "loud queue: VERY QUIET HERE",
        "gate: 1, 2, 3",
        "splitter: one, two, three, four",
        "gate: received 5, added 0, sent 3, dropped 2",
        "splitter: received 3, added 2, sent 4, dropped 1",
    ]


def test_every_question_is_answered_though_a_worker_leaves(start: Start) -> None:
    *answers, again = lines_of(start("load_balancer.py"))
    questions = [f"question {number} is answered by worker " for number in range(12)]
    assert sorted(answer[:-1] for answer in answers) == sorted(questions)
    assert {answer[-1] for answer in answers} == {"0", "1"}
    assert int(again.removeprefix("given again: ")) >= 1


def test_urgent_questions_are_answered_first_and_again_if_a_worker_dies(start: Start) -> None:
    *first, second, third, fourth, again = lines_of(start("balancer.py"))
    assert first == ["Where is the fire? Ada answers.", "Who calls for help? Ada answers."]
    questions = ["How are you?", "Is it raining?", "What is the time?"]
    assert sorted((second, third, fourth)) == [f"{question} Ben answers." for question in questions]
    assert again == "given again: 1"


def test_each_account_has_its_shard_and_one_that_is_late_holds_up_no_other(start: Start) -> None:
    assert lines_of(start("sharder.py")) == [
        "Ada has 10, says red",
        "Cleo has 10, says green",
        "Emil has 10, says green",
        "Hugo has 10, says red",
        "2 requests wait for blue",
        "Gina has 10, says blue",
        "Iris has 10, says blue",
    ]


def test_every_service_is_found_by_its_name_though_a_worker_dies(start: Start) -> None:
    found, lost, *greetings, again = lines_of(start("majordomo.py"))
    assert (found, lost) == ("is there a worker for greet? 200", "is there a worker for nobody? 404")
    names = [greeting.partition(", says worker ")[0] for greeting in greetings]
    assert names == [f"Hello {name}" for name in ("Ada", "Ben", "Cleo", "Dora", "Emil", "Fred")]
    assert {greeting[-1] for greeting in greetings} == {"0", "1"}
    assert again == "given again: 1"


def test_question_of_a_worker_that_falls_silent_is_answered_by_another(start: Start) -> None:
    *answers, again = lines_of(start("paranoid_pirate.py"))
    assert [answer[:-1] for answer in answers] == [f"question {number} is answered by worker " for number in range(6)]
    assert {answer[-1] for answer in answers} == {"1", "2"}
    assert again == "given again: 1"


def test_stored_requests_survive_a_broker_that_is_killed(start: Start) -> None:
    squares = [f"{number} squared is {number * number}" for number in range(5)]
    assert lines_of(start("titanic.py")) == ["stored 5 requests", "the broker was killed", *squares]


def test_late_subscribers_are_sent_the_last_values(start: Start) -> None:
    assert lines_of(start("last_value.py")) == [
        "a subscriber to ber:",
        *(f"    {city}: report 2" for city in ("bergen", "berlin", "bern")),
        "a subscriber to lima:",
        "    lima: report 2",
        "sent again: 4",
    ]


def test_clients_share_a_map(start: Start) -> None:
    colours = [(b"/colours/grass", b"green"), (b"/colours/sky", b"blue")]
    assert lines_of(start("clone.py")) == [
        f"the second client joins: {colours}",
        f"the first client follows: {[(b'/colours/sky', b'grey'), (b'/prices/tea', b'3')]}",
        "a second later the sky is gone: []",
    ]


def test_engine_works_on_a_loop_of_asyncio(start: Start) -> None:
    lines = lines_of(start("asyncio_engine.py", "5"))
    assert sorted(lines[:-1]) == [f"reply to {name}'s question {n}" for name in ("Ada", "Ben") for n in range(5)]
    assert lines[-1] == "10 questions went through"


def test_gevent_runs_an_engine_its_peers_and_a_web_server_in_one_thread(start: Start) -> None:
    assert lines_of(start("gevent_engine.py", "5")) == ["10 jobs done in 1 thread", '{"passed on": 10, "done": 10}']


def test_tornado_runs_an_engine(start: Start) -> None:
    lines = lines_of(start("tornado_engine.py", "5"))
    assert lines == [*(f"reply to {number}" for number in range(5)), "5 questions went through"]


def test_a_poller_of_the_programs_own_drives_an_engine(start: Start) -> None:
    jobs = [f"job {number}" for number in range(5)]
    assert lines_of(start("own_poller.py", "5")) == [*jobs, "5 jobs went through"]


def test_qt_drives_an_engine(start: Start) -> None:
    pytest.importorskip("PySide6.QtCore", reason="Qt is not installed: pip install PySide6-Essentials")
    jobs = [f"job {number}" for number in range(5)]
    assert lines_of(start("qt_engine.py", "5")) == [*jobs, "5 jobs went through"]


def test_tkinter_drives_an_engine(start: Start, display: None) -> None:
    jobs = [f"job {number}" for number in range(5)]
    assert lines_of(start("tkinter_engine.py", "5")) == [*jobs, "the window says: 5 jobs"]
