"""A dictionary that cannot be changed, for definitions and snapshots.

It is a subclass of `dict`, and not a `types.MappingProxyType`, so that an object that holds one can be pickled and
copied, and can be given to `json` and `dataclasses.asdict`.
"""

from typing import Any, NoReturn, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FrozenDict(dict[_Key, _Value]):
    """A `dict` whose methods that would change it raise `TypeError`."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - it replaces methods with any arguments
        raise TypeError("this mapping cannot be changed; make a dict of it and change that")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type["FrozenDict[_Key, _Value]"], tuple[dict[_Key, _Value]]]:
        """Pickle it as a call with a plain dict. Otherwise pickle would set the items one by one, which is refused."""
        return type(self), (dict(self),)
