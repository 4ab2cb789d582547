"""Asking over HTTP."""

import http.client

from tests.support.deadline import DEADLINE_S


def get(address: str, path: str) -> str:
    """What a server answers, which must be 200."""
    status, text = ask(address, path)
    assert status == 200, f"{path}: {status}: {text}"
    return text


def ask(address: str, path: str) -> tuple[int, str]:
    """The status and the text that a server answers."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
