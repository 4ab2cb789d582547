"""What was touched longest ago comes first, whatever was touched and forgotten in between."""

from hypothesis import given
from hypothesis import strategies as st

from pollbroker.patterns.ages import Ages

steps = st.lists(st.tuples(st.sampled_from(["touch", "forget", "take"]), st.integers(0, 4), st.integers(0, 2)))


@given(steps)
def test_things_are_taken_by_their_age(steps: list[tuple[str, int, int]]) -> None:
    """The same as a dictionary of times that is searched from end to end."""
    ages: Ages[int] = Ages()
    model: dict[int, int] = {}
    tick = 0
    for what, thing, passed in steps:
        tick += passed
        if what == "touch":
            ages.touch(thing, tick)
            model.pop(thing, None)
            model[thing] = tick
        elif what == "forget":
            ages.forget(thing)
            model.pop(thing, None)
        else:
            limit = tick - thing
            old = [thing for thing, at in model.items() if at <= limit]
            assert list(ages.take_until(limit)) == old
            model = {thing: at for thing, at in model.items() if at > limit}
        assert list(ages) == list(model)
        assert len(ages) == len(model)
        assert ages.last(thing) == model.get(thing)


def test_things_may_be_touched_while_they_are_taken() -> None:
    ages: Ages[str] = Ages()
    for thing in "abc":
        ages.touch(thing, 1)
    taken = []
    for thing in ages.take_until(1):
        taken.append(thing)
        ages.touch(thing, 2)
        ages.forget("b")
    assert taken == ["a", "c"]
    assert list(ages) == ["a", "c"]
