"""An engine in a Qt program: Qt's loop makes its turns, by a QSocketNotifier and a QTimer.

python examples/qt_engine.py [JOBS, by default 10]
"""

import math
import sys
from contextlib import closing

import zmq
from PySide6.QtCore import QCoreApplication, QSocketNotifier, QTimer

from pollbroker import STREAMER, Engine


class Driver:
    """Lets Qt make an engine's turns: when its descriptor is readable, or one of its timers is due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timer = QTimer(singleShot=True)
        self._timer.timeout.connect(self._turn)
        self._notifier = QSocketNotifier(engine.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._turn)
        self._turn()

    def _turn(self) -> None:
        self._engine.step()
        next_s = self._engine.next_timer_s()
        if next_s is None:
            self._timer.stop()
        else:
            self._timer.start(math.ceil(1000 * next_s))

    def stop(self) -> None:
        self._notifier.setEnabled(False)
        self._timer.stop()


def main(count: int = 10) -> None:
    # A program with windows has a QApplication; it makes no difference here.
    application = QCoreApplication(sys.argv[:1])
    with (
        zmq.Context() as context,
        context.socket(zmq.PUSH) as pusher,
        context.socket(zmq.PULL) as puller,
        closing(Engine(waiter="nested")) as engine,
    ):
        jobs = engine.add("jobs", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        pusher.connect(jobs.frontend.endpoint)
        puller.connect(jobs.backend.endpoint)
        driver = Driver(engine)
        done: list[str] = []

        def receive() -> None:
            # The engine reads the program's socket, too, so Qt has one descriptor to watch.
            done.append(puller.recv().decode())
            print(done[-1])
            if len(done) == count:
                application.quit()

        engine.add_reader(puller, receive)
        for number in range(count):
            pusher.send(f"job {number}".encode())
        application.exec()
        driver.stop()
        engine.remove_reader(puller)
        print(f"{jobs.statistics().flows['frontend'].sent} jobs went through")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
