"""Any device on an Engine of your own: what the command `pollbroker DEVICE FRONTEND BACKEND` does, in a few lines.

python examples/serve.py queue tcp://127.0.0.1:5559 tcp://127.0.0.1:5560
python examples/serve.py forwarder 'tcp://127.0.0.1:*' 'tcp://127.0.0.1:*'

DEVICE is a name in `pollbroker.DEVICES`: queue, forwarder, filter or streamer. Ctrl-C or SIGTERM ends it.
"""

import signal
import sys
from contextlib import closing

from pollbroker import Engine


def main(device: str, frontend: str, backend: str) -> None:
    with closing(Engine()) as engine:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: engine.stop())
        broker = engine.add(device, device, frontend=frontend, backend=backend)
        for port in broker.ports.values():
            print(f"{broker.name} {port.name}: {' '.join(port.endpoints)}", flush=True)
        engine.run()  # in this thread, until stop()
        for flow in engine.statistics().brokers[device].flows.values():
            print(f"{flow.source} to {', '.join(flow.sinks)}: {flow.sent} messages")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
