"""Peers of other libraries at ports of the wire and of libzmq: the schedules of `tests/support/schedules/`, with
sockets that are in a process of their own.

`python -m tests.others` runs them with every library of `libraries.py`, which it compiles or installs into a temporary
directory. Each is used by a small program in `programs/`, which reads commands from its standard input, one on a line,
and answers each with a line on its standard output. The words of a line are separated by one space. A frame, or a
topic, is in hexadecimal digits, or `-` if it is empty. Whoever sends the commands chooses the sockets' numbers. Times
are in milliseconds.

    version                             version TEXT, what the library says of itself
    socket NUMBER TYPE [NAME=INT]...    ok; the type is such as PUSH, and the options have libzmq's names
    connect NUMBER ENDPOINT             ok
    subscribe NUMBER TOPIC              ok; a SUB subscribes
    unsubscribe NUMBER TOPIC            ok; a SUB cancels one subscription
    send NUMBER FRAME...                ok, or no, if it cannot be sent within `sndtimeo`, or has nobody to go to
    receive NUMBER TIME                 message FRAME..., or no, if none has come within this time
    close NUMBER LINGER                 ok; what was sent may still be written for this time

The options are `sndhwm`, `rcvhwm`, `sndtimeo` and `router_mandatory`. Any other answer, which begins with `error`, says
what went wrong. The program ends when its standard input does.
"""
