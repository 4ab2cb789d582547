"""Checks of what a user sets."""

import math
from collections.abc import Callable

import pytest

from pollbroker.checks import SettingChecks
from pollbroker.errors import ConfigError

CHECKS = SettingChecks("the daemon", ConfigError)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (lambda: CHECKS.whole(a=1, b=0), "b is 0: expected a whole number from 1 on"),
        (lambda: CHECKS.whole(a=True), "a is True: expected a whole number from 1 on"),
        (lambda: CHECKS.whole(a=1.0), "a is 1.0: expected a whole number from 1 on"),
        (lambda: CHECKS.whole(least=0, most=9, a=10), "a is 10: expected a whole number from 0 to 9"),
        (lambda: CHECKS.whole(least=-math.inf, a="1"), "a is '1': expected a whole number"),
        (lambda: CHECKS.seconds(a=1, b=0), "b is 0: expected a number of seconds above 0"),
        (lambda: CHECKS.seconds(a=True), "a is True: expected a number of seconds above 0"),
        (lambda: CHECKS.seconds(a=math.inf), "a is inf: expected a number of seconds above 0"),
        (lambda: CHECKS.seconds(a=math.nan), "a is nan: expected a number of seconds above 0"),
        (lambda: CHECKS.seconds(a=None), "a is None: expected a number of seconds above 0"),
        (lambda: CHECKS.seconds(zero=True, a=-1), "a is -1: expected a number of seconds from 0 on"),
        (lambda: CHECKS.seconds(least=0.5, a=0.4), "a is 0.4: expected a number of seconds from 0.5 on"),
        (
            lambda: CHECKS.seconds(or_none=True, a="1"),
            "a is '1': expected a number of seconds above 0, or None (inf in a file)",
        ),
        (lambda: CHECKS.true_or_false(a=1), "a is 1: expected True or False"),
        (lambda: CHECKS.one_of((1, 2), a=3), "a is 3: expected one of 1, 2"),
        (lambda: CHECKS.one_of((1, 2), a=True), "a is True: expected one of 1, 2"),
        (lambda: CHECKS.some_bytes(a=b""), "a is b'': expected one or more bytes, or None"),
        (lambda: CHECKS.some_bytes(a="a"), "a is 'a': expected one or more bytes, or None"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected(check: Callable[[], None], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check()
    assert str(raised.value) == f"the daemon: {expected}"


def test_right_values_pass() -> None:
    CHECKS.whole(a=1, b=10**30)
    CHECKS.whole(least=-math.inf, a=-5)
    CHECKS.whole(least=0, most=9, a=0, b=9)
    CHECKS.seconds(a=0.001, b=5)
    CHECKS.seconds(zero=True, a=0)
    CHECKS.seconds(or_none=True, a=None)
    CHECKS.true_or_false(a=False)
    CHECKS.one_of(("drop", "wait"), a="wait")
    CHECKS.some_bytes(a=None, b=b"x")
