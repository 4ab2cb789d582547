"""Programs that others wrote, without a change, with pollbroker's brokers, clients and workers.

`python -m tests.interop --guide PATH --czmq PATH` runs them. None of their code is here: the paths are checkouts
of https://github.com/booksbyus/zguide and of https://github.com/zeromq/czmq at v3.0.2, the last version with which the
guide's programs in C can be compiled. What is on PyPI is installed into a virtual environment of its own. The programs
use fixed ports (5555 and 5556), so they run one after the other, and nothing else may use these ports.
"""
