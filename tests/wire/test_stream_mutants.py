"""The kit finds faults of the wire's core by its seeds: each of these breaks a promise in a bounded number of seeds."""

from pathlib import Path
from typing import Final

import pytest

from tests.wire.mutants import MUTANTS, Mutant
from tests.wire.stream_mutants import NativeBuild, try_seeds, why_not

SEEDS: Final = 150
"""How many seeds are tried at most for each mutant."""

OWN: Final = (
    Mutant(
        "a write that takes a part is taken for whole",
        "output.c",
        "queue_note_written(&peer->out, (size_t) written);",
        "queue_note_written(&peer->out, offered);",
        "streamer",
    ),
    Mutant(
        "a peer whose stream was full is not written to again",
        "peer.c",
        "    if (events & STREAM_OUTPUT && peer->blocked)\n        peer_flush(peer);\n",
        "",
        "streamer",
    ),
    Mutant(
        "a frame that has come in part is taken for whole",
        "input.c",
        "if (count < size) {",
        "if (count < (size_t) header) {",
        "streamer",
    ),
)
"""Those that are not in `mutants.py`: of bytes that are cut, and writes that take a part."""

OF_THE_CORE: Final = {
    "a subscription is not passed on to the publishers": "forwarder",
    "a publisher that comes later is not told of subscriptions": "forwarder",
    "the queue of a leaver is dropped": "streamer",
}
"""Mutants of `mutants.py`, each with the device by which it is found."""

TRIED: Final = (
    *((one, one.check) for one in OWN),
    *((one, OF_THE_CORE[one.claim]) for one in MUTANTS if one.claim in OF_THE_CORE),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> NativeBuild:
    return NativeBuild(tmp_path_factory.mktemp("native"))


def test_without_a_mutant_nothing_is_found(build: NativeBuild, tmp_path: Path) -> None:
    done = try_seeds(build.module(None, tmp_path), "streamer", 10)
    assert done.returncode == 0, done.stderr


def test_every_mutant_is_tried() -> None:
    assert len(TRIED) == len(OWN) + len(OF_THE_CORE)


@pytest.mark.parametrize(("mutant", "device"), TRIED, ids=[one.claim.replace(" ", "_") for one, _ in TRIED])
def test_mutant_is_found_by_a_seed(mutant: Mutant, device: str, build: NativeBuild, tmp_path: Path) -> None:
    done = try_seeds(build.module(mutant, tmp_path), device, SEEDS)
    assert done.returncode != 0, f"{mutant.claim}: not found in {SEEDS} seeds"
