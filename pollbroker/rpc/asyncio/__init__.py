"""The clients and workers of `pollbroker.rpc` for programs on asyncio: what blocks there is awaited here.

from pollbroker.rpc.asyncio import MajordomoClient

async with MajordomoClient("tcp://127.0.0.1:5555") as client:
    (reply,) = await client.request("echo", b"hello")
"""

from pollbroker.rpc.asyncio.clients import MajordomoClient, PirateClient
from pollbroker.rpc.asyncio.titanic import TitanicClient
from pollbroker.rpc.asyncio.workers import MajordomoWorker, PirateWorker
from pollbroker.rpc.dialog import Request
from pollbroker.rpc.errors import RequestTimeout, RpcError, TitanicError, UnknownRequest

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
