"""A request on its way, without I/O: when it is sent again, and when it is given up."""

import pytest

from pollbroker.rpc import RequestTimeout
from pollbroker.rpc.exchange import Exchange, Part


def exchange(retries: int = 2) -> Exchange:
    """A request for which `last` ends the reply, and `garbage` is no part of it."""

    def parse(frames: list[bytes]) -> Part | None:
        return None if frames == [b"garbage"] else Part(frames, frames == [b"last"])

    return Exchange("here", [b"question"], parse, timeout_s=1.0, retries=retries, now_s=0.0)


def test_reply_ends_it() -> None:
    one = exchange()
    assert not one.is_done
    assert one.received([b"last"]) == [b"last"]
    assert one.is_done


def test_what_is_no_reply_is_passed_over_and_does_not_prolong_the_try() -> None:
    one = exchange()
    assert one.received([b"garbage"]) is None
    assert (one.is_done, one.until_s) == (False, 1.0)


def test_each_try_has_its_time_and_the_last_fails() -> None:
    one = exchange()
    for number in (1, 2):
        assert (one.tries, one.until_s) == (number, float(number))
        one.try_again(float(number))
    with pytest.raises(RequestTimeout, match=r"^here: no reply in 3 s \(3 tries\)$"):
        one.try_again(3.0)


def test_one_try_is_one_try() -> None:
    with pytest.raises(RequestTimeout, match=r"^here: no reply in 1 s \(1 try\)$"):
        exchange(retries=0).try_again(1.0)


def test_part_prolongs_the_try_once_it_was_used_and_forbids_another() -> None:
    one = exchange()
    assert one.received([b"part"]) == [b"part"]
    one.wait_on(0.75)
    assert (one.is_done, one.until_s) == (False, 1.75)
    with pytest.raises(RequestTimeout, match=r"^here: no further part of the reply within 1 s") as raised:
        one.try_again(1.75)
    assert isinstance(raised.value, TimeoutError)
