"""What `pollbroker` exports is imported when it is asked for, and not before."""

import importlib

import pytest

import pollbroker
from pollbroker import exports
from tests.support.processes import run_apart


def test_package_has_every_name_that_it_lists() -> None:
    assert set(pollbroker.__all__) == {*exports.__all__, "__version__"}
    assert all(getattr(pollbroker, name) is getattr(exports, name) for name in exports.__all__)
    assert set(dir(pollbroker)) >= set(pollbroker.__all__)


def test_package_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'pollbroker' has no attribute 'Enigne'"):
        pollbroker.Enigne  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("pollbroker.Engine")


def test_package_is_imported_without_pyzmq_until_a_name_is_used() -> None:
    program = """if True:
        import sys
        import pollbroker
        before = "zmq" in sys.modules
        from pollbroker import *
        print(before, Engine.__name__, "zmq" in sys.modules)
    """
    assert run_apart(program) == "False Engine True\n"
