"""Random schedules of what peers do at a broker, and models of what has to arrive.

A schedule (`steps.py`) says who comes, sends, receives and leaves. Nobody is killed, and a receiver leaves only when
nothing is on its way. So nothing may be lost, doubled or torn, what one sender sent through one receiver has to be in
order (`exchange.py`), and a subscriber is given what it has subscribed to and no more (`news.py`).

The ports of the broker are the wire's or libzmq's. The peers are sockets of any library that keeps the interface of
`peers.py`: of pyzmq in this process, or of a program that is driven (`tests/others/`).
"""
