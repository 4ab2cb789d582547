"""Wrong settings of behaviours are refused, and the error says what was found and expected."""

import math
from typing import Any

import pytest

from pollbroker import BehaviourError, Clone, LastValue


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: LastValue(max_topics=0), "LastValue: max_topics is 0: expected a whole number from 1 on"),
        (lambda: LastValue(max_bytes=True), "LastValue: max_bytes is True: expected a whole number from 1 on"),
        (lambda: LastValue(max_subscriptions="9"), "LastValue: max_subscriptions is '9': expected a whole number from"),  # type: ignore[arg-type]
        (lambda: LastValue(gather_s=-1), "LastValue: gather_s is -1: expected a number of seconds from 0 on"),
        (lambda: LastValue(gather_s=math.nan), "LastValue: gather_s is nan: expected a number of seconds from 0 on"),
        (lambda: LastValue(delimiter=b""), "LastValue: delimiter is b'': expected one or more bytes, or None"),
        (lambda: LastValue(delimiter=" "), "LastValue: delimiter is ' ': expected one or more bytes, or None"),  # type: ignore[arg-type]
        (lambda: LastValue(empty_deletes=1), "LastValue: empty_deletes is 1: expected True or False"),  # type: ignore[arg-type]
        (lambda: Clone(hugz_s=0), "Clone: hugz_s is 0: expected a number of seconds above 0"),
        (lambda: Clone(stalled_s=math.inf), "Clone: stalled_s is inf: expected a number of seconds above 0"),
        (lambda: Clone(max_keys=1.5), "Clone: max_keys is 1.5: expected a whole number from 1 on"),  # type: ignore[arg-type]
        (lambda: Clone(max_bytes=-1), "Clone: max_bytes is -1: expected a whole number from 1 on"),
        (lambda: Clone(max_snapshots=0), "Clone: max_snapshots is 0: expected a whole number from 1 on"),
        (lambda: Clone(first_number=-1), "Clone: first_number is -1: expected a whole number from 0 to 46116860184273"),
        (lambda: Clone(first_number=2**62), "Clone: first_number is 46116860184273"),
    ],
)
def test_wrong_setting_is_refused(make: Any, expected: str) -> None:
    with pytest.raises(BehaviourError) as raised:
        make()
    assert str(raised.value).startswith(expected)


def test_least_settings_serve() -> None:
    LastValue(max_topics=1, max_bytes=1, max_subscriptions=1, gather_s=0)
    Clone(max_keys=1, max_bytes=1, max_snapshots=1, hugz_s=1e-9, stalled_s=1e-9)
