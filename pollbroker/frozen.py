"""A dictionary that cannot be changed, for definitions and snapshots that are handed to anybody.

It is a `dict` and no `types.MappingProxyType`, so that what holds one can be pickled and copied, and is taken by `json`
and by `dataclasses.asdict`.
"""

from typing import Any, NoReturn, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FrozenDict(dict[_Key, _Value]):
    """A `dict` whose methods that would change it raise `TypeError`."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - it stands for methods of every shape
        raise TypeError("this mapping cannot be changed; make a dict of it and change that")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type["FrozenDict[_Key, _Value]"], tuple[dict[_Key, _Value]]]:
        """Pickling fills a dict item by item, which this one would refuse: make it from another."""
        return type(self), (dict(self),)
