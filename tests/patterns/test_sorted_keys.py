"""Keys in order, in blocks: as a sorted list, but fast."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollbroker.patterns import sorted_keys
from pollbroker.patterns.sorted_keys import SortedKeys, after

keys = st.text("abc", max_size=3).map(str.encode)


def everything(found: SortedKeys) -> list[bytes]:
    return found.with_prefix(b"", b"", 10**9)


# Whatever is added and removed, a prefix finds what a scan of a sorted list finds.
@settings(max_examples=60)
@given(st.lists(keys), keys, keys, st.integers(1, 10))
def test_same_keys_are_found_as_in_a_sorted_list(toggled: list[bytes], prefix: bytes, more: bytes, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_keys, "BLOCK", 2)
        found, model = SortedKeys(), set[bytes]()
        for key in toggled:
            if key in model:
                model.remove(key)
                found.remove(key)
            else:
                model.add(key)
                found.add(key)
    assert everything(found) == sorted(model)
    start = prefix + more
    matching = [key for key in sorted(model) if key.startswith(prefix) and key >= start]
    assert found.with_prefix(prefix, start, most) == matching[:most]


def test_blocks_are_parted_and_given_up() -> None:
    found = SortedKeys()
    many = [b"%06d" % number for number in range(5000)]
    for key in many[::2] + many[1::2]:
        found.add(key)
    assert max(map(len, found._blocks)) <= sorted_keys.BLOCK
    assert found.with_prefix(b"0040", b"004000", 10**9) == many[4000:4100]
    for key in many:
        found.remove(key)
    assert (found._blocks, found._lasts) == ([], [])


@pytest.mark.parametrize("key", [b"", b"a", b"a\xff", b"\xff"])
def test_nothing_lies_between_a_key_and_what_is_after_it(key: bytes) -> None:
    assert key < after(key) <= key + b"\0\0"
    assert after(key).startswith(key)
