"""Clients and workers for the brokers of `pollbroker.patterns`, and for any broker that speaks the same protocols.

    from pollbroker.rpc import MajordomoClient

    with MajordomoClient("tcp://127.0.0.1:5555") as client:
        (reply,) = client.request("echo", b"hello")

What blocks here is awaited in `pollbroker.rpc.asyncio`, which has the same names.
"""

from pollbroker.rpc.clients import MajordomoClient, PirateClient
from pollbroker.rpc.dialog import Request
from pollbroker.rpc.errors import RequestTimeout, RpcError, TitanicError, UnknownRequest
from pollbroker.rpc.titanic import TitanicClient
from pollbroker.rpc.workers import MajordomoWorker, PirateWorker

__all__ = [
    "MajordomoClient",
    "MajordomoWorker",
    "PirateClient",
    "PirateWorker",
    "Request",
    "RequestTimeout",
    "RpcError",
    "TitanicClient",
    "TitanicError",
    "UnknownRequest",
]
