"""Ctrl-C and SystemExit in a program of each environment: they come up in it, and everything is closed."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import zmq

from tests.embedding.environments import Environment
from tests.embedding.programs import program
from tests.support.deadline import DEADLINE_S
from tests.support.processes import run_apart
from tests.support.types import Connect, Socket


@pytest.fixture
def process(kind: type[Environment]) -> Iterator[subprocess.Popen[str]]:
    """The program of each environment in turn, at work."""
    command = [sys.executable, "-u", "-W", "error", "-c", program(kind.name)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def push(process: subprocess.Popen[str], connect: Connect) -> Socket:
    """A producer of the program's broker, through which traffic has passed."""
    assert process.stdout is not None
    frontend, backend = process.stdout.readline().split()
    push, pull = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
    push.send(b"x")
    assert pull.recv() == b"x"
    return push


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """What the program printed at its end; it ends by itself, and well."""
    output, complaint = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, complaint
    return output.splitlines()


def test_ctrl_c_ends_the_program(process: subprocess.Popen[str], push: Socket) -> None:
    process.send_signal(signal.SIGINT)
    assert lines_of(process) == ["KeyboardInterrupt: ", "closed", "[]"]


def test_system_exit_of_a_handler_comes_up(
    kind: type[Environment], process: subprocess.Popen[str], push: Socket
) -> None:
    push.send(b"exit")
    expected = {"thread": "EngineError: the engine's thread was ended by SystemExit: 7"}
    assert lines_of(process) == [expected.get(kind.name, "SystemExit: 7"), "closed", "[]"]


def test_program_ends_though_a_task_of_it_waits_for_the_engine_to_close() -> None:
    """Python closes the coroutine when the interpreter ends, and no thread can begin any more."""
    script = """
        import asyncio, zmq
        from pollbroker import STREAMER
        from pollbroker.asyncio import Engine

        async def serve():
            engine = Engine()
            engine.start()
            ports = {"frontend": "inproc://jobs", "backend": "tcp://127.0.0.1:*"}
            jobs = await engine.add("jobs", STREAMER, **ports, transport="libzmq")
            with engine.context.socket(zmq.PUSH) as push:
                push.connect("inproc://jobs")
                push.send(b"held, as there is no consumer")
                while not jobs.statistics().flows["frontend"].held:
                    await asyncio.sleep(0)
            loop.call_soon(loop.stop)
            await engine.close(timeout_s=1000)

        loop = asyncio.new_event_loop()
        task = loop.create_task(serve())
        loop.run_forever()
        print("the program ends" if not task.done() else "the task has ended")
    """
    assert run_apart(script) == "the program ends\n"


def test_no_thread_is_begun_for_an_adoption_while_the_interpreter_ends() -> None:
    script = """
        from pollbroker.calls import call_in_thread

        class AtTheEnd:
            def __del__(self, call_in_thread=call_in_thread, print=print):
                try:
                    call_in_thread("pollbroker-adopt", print)
                except RuntimeError as error:
                    print(error)

        at_the_end = AtTheEnd()
    """
    assert run_apart(script) == "the interpreter ends, and the thread pollbroker-adopt cannot begin\n"
