"""An engine in a tkinter program: tkinter's loop makes its turns, and the window shows how many jobs went through.

python examples/tkinter_engine.py [JOBS, by default 10]
"""

import math
import sys
import tkinter
from contextlib import closing

import zmq

from pollbroker import STREAMER, Engine


class Driver:
    """Lets tkinter make an engine's turns: when its descriptor is readable, or one of its timers is due."""

    def __init__(self, window: tkinter.Tk, engine: Engine) -> None:
        self._window = window
        self._engine = engine
        self._timer: str | None = None
        window.tk.createfilehandler(engine.fileno(), tkinter.READABLE, self._turn)
        self._turn()

    def _turn(self, *_: object) -> None:
        self._engine.step()
        if self._timer is not None:
            self._window.after_cancel(self._timer)
        next_s = self._engine.next_timer_s()
        self._timer = None if next_s is None else self._window.after(math.ceil(1000 * next_s), self._turn)

    def stop(self) -> None:
        self._window.tk.deletefilehandler(self._engine.fileno())
        if self._timer is not None:
            self._window.after_cancel(self._timer)


def main(count: int = 10) -> None:
    window = tkinter.Tk()
    label = tkinter.Label(window, text="no job yet")
    label.pack()
    with (
        zmq.Context() as context,
        context.socket(zmq.PUSH) as pusher,
        context.socket(zmq.PULL) as puller,
        closing(Engine(waiter="nested")) as engine,
    ):
        jobs = engine.add("jobs", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        pusher.connect(jobs.frontend.endpoint)
        puller.connect(jobs.backend.endpoint)
        driver = Driver(window, engine)
        done = 0

        def receive() -> None:
            # The engine reads the program's socket, too, so tkinter has one descriptor to watch.
            nonlocal done
            print(puller.recv().decode())
            done += 1
            label.config(text=f"{done} jobs")
            if done == count:
                window.quit()

        engine.add_reader(puller, receive)
        for number in range(count):
            pusher.send(f"job {number}".encode())
        window.mainloop()
        driver.stop()
        engine.remove_reader(puller)
        print(f"the window says: {label.cget('text')}")
    window.destroy()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
