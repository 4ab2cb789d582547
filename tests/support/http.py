"""Asking over HTTP."""

import http.client

from tests.support.deadline import DEADLINE_S


def get(address: str, path: str) -> str:
    """What a server answers, which must be 200."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{path}: {answer.status}: {text}"
        return text
    finally:
        connection.close()
