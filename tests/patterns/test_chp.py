"""The frames of RFC 12/CHP."""

import pytest

from pollbroker.patterns.clone.chp import KeyValue, as_frame, parse, parse_properties, parse_time_to_live

UUID = bytes(range(16))
NUMBER = bytes(8)


def test_number_is_eight_bytes_in_network_order() -> None:
    assert as_frame(258) == b"\0\0\0\0\0\0\1\2"
    assert parse([b"k", as_frame(258), b"", b"", b""]) == KeyValue(b"k", 258, b"", b"", b"")


@pytest.mark.parametrize(
    ("properties", "ttl_s"),
    [
        (b"", 0.0),
        (b"ttl=5\n", 5.0),
        (b"ttl=0.25\n", 0.25),
        (b"ttl=0\n", 0.0),
        (b"ttl=0.0\n", 0.0),
        (b"other=x\nttl=3\n", 3.0),
        (b"ttl=1\nttl=2\n", 2.0),
        (b"other=a=b\n", 0.0),
        (b"empty=\n", 0.0),
        (b"ttl=999999999\n", 999999999.0),
    ],
)
def test_update_has_a_time_to_live(properties: bytes, ttl_s: float) -> None:
    assert parse_time_to_live([b"k", NUMBER, UUID, properties, b"v"]) == ttl_s


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"k"],
        [b"k", NUMBER, UUID, b""],
        [b"k", NUMBER, UUID, b"", b"v", b"more"],
        [b"", NUMBER, UUID, b"", b"v"],
        [b"k", b"", UUID, b"", b"v"],
        [b"k", b"1234567", UUID, b"", b"v"],
        [b"k", b"123456789", UUID, b"", b"v"],
        [b"k", NUMBER, b"1", b"", b"v"],
        [b"k", NUMBER, UUID + b"1", b"", b"v"],
        [b"KTHXBAI", NUMBER, UUID, b"", b"v"],
        [b"HUGZ", NUMBER, UUID, b"", b"v"],
        *(
            [b"k", NUMBER, UUID, properties, b"v"]
            for properties in (
                b"ttl=5",
                b"ttl\n",
                b"=5\n",
                b"\n",
                b"ttl=5\n\n",
                b"ttl=\n",
                b"ttl=-1\n",
                b"ttl=nan\n",
                b"ttl=1e3\n",
                b"ttl=1_000\n",
                b"ttl= 5\n",
                b"ttl=5.\n",
                b"ttl=1234567890\n",
                "ttl=٣\n".encode(),
                b"\xff\xfe",
            )
        ),
    ],
)
def test_what_is_not_an_update_is_told_from_one(frames: list[bytes]) -> None:
    with pytest.raises(ValueError, match="KVSET"):
        parse_time_to_live(frames)
    if len(frames) != 5 or not frames[0] or len(frames[1]) != 8 or len(frames[2]) not in (0, 16):
        assert parse(frames) is None


def test_properties_are_by_name() -> None:
    assert parse_properties(b"") == {}
    assert parse_properties(b"a=1\nb=\nc=x=y\n") == {b"a": b"1", b"b": b"", b"c": b"x=y"}
