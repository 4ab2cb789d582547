"""The frames of MDP and of Titanic: as the RFCs have them, and whatever else comes is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import FINAL, PARTIAL, Version
from pollbroker.patterns.titanic import frames as titanic_frames

VERSIONS: tuple[Version, Version] = (1, 2)

frames = st.lists(
    st.one_of(
        st.binary(max_size=3),
        st.sampled_from([b"", mdp.CLIENT_1, mdp.CLIENT_2, mdp.WORKER_1, mdp.WORKER_2, b"\1", b"\2", b"\3", b"\4"]),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (mdp.client_request(b"echo", [b"a", b"b"]), [b"", b"MDPC01", b"echo", b"a", b"b"]),
        (mdp.client_request(b"echo", [b"a"], 2), [b"MDPC02", b"\1", b"echo", b"a"]),
        (mdp.client_reply(b"echo", [b"a"]), [b"", b"MDPC01", b"echo", b"a"]),
        (mdp.client_reply(b"echo", [b"a"], 2, PARTIAL), [b"MDPC02", b"\2", b"echo", b"a"]),
        (mdp.client_reply(b"echo", [b"a"], 2), [b"MDPC02", b"\3", b"echo", b"a"]),
        (mdp.worker_ready(b"echo"), [b"", b"MDPW01", b"\1", b"echo"]),
        (mdp.worker_request(b"id", [b"a"]), [b"", b"MDPW01", b"\2", b"id", b"", b"a"]),
        (mdp.worker_reply(b"id", [b"a"]), [b"", b"MDPW01", b"\3", b"id", b"", b"a"]),
        (mdp.worker_heartbeat(), [b"", b"MDPW01", b"\4"]),
        (mdp.worker_disconnect(), [b"", b"MDPW01", b"\5"]),
        (mdp.worker_ready(b"echo", 2), [b"MDPW02", b"\1", b"echo"]),
        (mdp.worker_request(b"id", [b"a"], 2), [b"MDPW02", b"\2", b"id", b"", b"a"]),
        (mdp.worker_reply(b"id", [b"a"], 2, PARTIAL), [b"MDPW02", b"\3", b"id", b"", b"a"]),
        (mdp.worker_reply(b"id", [b"a"], 2), [b"MDPW02", b"\4", b"id", b"", b"a"]),
        (mdp.worker_heartbeat(2), [b"MDPW02", b"\5"]),
        (mdp.worker_disconnect(2), [b"MDPW02", b"\6"]),
    ],
)
def test_messages_are_those_of_the_rfcs(made: list[bytes], expected: list[bytes]) -> None:
    assert made == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_made_is_parsed(version: Version) -> None:
    assert mdp.parse_client_request(mdp.client_request(b"s", [b"", b"x"], version)) == (version, b"s", [b"", b"x"])
    assert mdp.parse_client_request([b"id", *mdp.client_request(b"s", [b"x"], version)], 1) == (version, b"s", [b"x"])
    for command in (FINAL, PARTIAL)[:version]:
        reply = mdp.parse_client_reply(mdp.client_reply(b"s", [b"x"], version, command))
        assert reply == (version, command, b"s", [b"x"])
        from_worker = mdp.parse_from_worker(mdp.worker_reply(b"c", [b"x"], version, command))
        assert from_worker == (version, command, b"", b"c", [b"x"])
    assert mdp.parse_from_worker([b"id", *mdp.worker_ready(b"s", version)], 1) == (version, mdp.READY, b"s", b"", ())
    assert mdp.parse_to_worker(mdp.worker_request(b"c", [b"x"], version)) == (version, mdp.REQUEST, b"", b"c", [b"x"])
    for parse in (mdp.parse_from_worker, mdp.parse_to_worker):
        assert parse(mdp.worker_heartbeat(version)) == (version, mdp.HEARTBEAT, b"", b"", ())
        assert parse(mdp.worker_disconnect(version)) == (version, mdp.DISCONNECT, b"", b"", ())


def test_no_worker_sends_a_request_and_no_broker_replies_to_a_worker() -> None:
    assert mdp.parse_from_worker(mdp.worker_request(b"c", [b"x"])) is None
    assert mdp.parse_to_worker(mdp.worker_reply(b"c", [b"x"])) is None
    assert mdp.parse_to_worker(mdp.worker_ready(b"s")) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_message_with_a_frame_too_many_is_none(version: Version) -> None:
    for frames in (mdp.worker_ready(b"s", version), mdp.worker_heartbeat(version), mdp.worker_disconnect(version)):
        assert mdp.parse_from_worker([*frames, b"more"]) is None


def test_a_part_of_a_reply_cannot_be_made_in_the_first_version() -> None:
    with pytest.raises(KeyError):
        mdp.client_reply(b"s", [b"x"], 1, PARTIAL)


@given(frames)
def test_whatever_comes_is_a_message_or_none(came: list[bytes]) -> None:
    """What is parsed is what is made of it again: nothing is lost, and nothing is accepted that no RFC has."""
    request = mdp.parse_client_request(came)
    assert request is None or mdp.client_request(request.service, request.body, request.version) == came
    reply = mdp.parse_client_reply(came)
    assert reply is None or mdp.client_reply(reply.service, reply.body, reply.version, reply.command) == came
    said = mdp.parse_from_worker(came) or mdp.parse_to_worker(came)
    if said is not None:
        again = {
            mdp.READY: lambda: mdp.worker_ready(said.service, said.version),
            mdp.REQUEST: lambda: mdp.worker_request(said.client, said.body, said.version),
            mdp.PARTIAL: lambda: mdp.worker_reply(said.client, said.body, said.version, PARTIAL),
            mdp.FINAL: lambda: mdp.worker_reply(said.client, said.body, said.version),
            mdp.HEARTBEAT: lambda: mdp.worker_heartbeat(said.version),
            mdp.DISCONNECT: lambda: mdp.worker_disconnect(said.version),
        }[said.command]()
        assert again == came
        assert mdp.worker_version(came) == said.version


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        (b"echo", True),
        ("größe".encode(), True),
        (b"a" * 255, True),
        (b"a" * 256, False),
        (b"", False),
        (b"\xff", False),
        (b"a\0", False),
        (b"a\n", False),
    ],
)
def test_name_of_a_service_is_printable_and_short(name: bytes, fits: bool) -> None:
    assert mdp.is_service_name(name) is fits


@pytest.mark.parametrize(
    ("uuid", "fits"),
    [(b"0123456789abcdefABCDEF0123456789", True), (b"0" * 31, False), (b"0" * 33, False), (b"g" * 32, False)],
)
def test_uuid_is_of_32_hexadecimal_digits(uuid: bytes, fits: bool) -> None:
    assert titanic_frames.is_uuid(uuid) is fits


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([b"200", b"a", b"b"], (b"200", [b"a", b"b"])),
        ([b"300 there is no reply yet"], (b"300", [])),
        ([b"2000"], None),
        ([b"201"], None),
        ([b""], None),
        ([], None),
    ],
)
def test_status_is_three_digits_and_any_text(body: list[bytes], expected: object) -> None:
    assert titanic_frames.parse_titanic_reply(body) == expected


def test_body_of_a_request_begins_with_the_service() -> None:
    assert titanic_frames.request_body(b"echo", [b"a"]) == [b"echo", b"a"]
