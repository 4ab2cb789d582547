"""Patches pyzmq at the start of each Python process of a program that runs in `patched_environment()`.

Python imports a module of this name at its start, and PYTHONPATH, which child processes inherit, leads to this one. It
hides that of the Python environment, so it imports that in the end.
"""

import sys
from importlib import import_module
from pathlib import Path

from pollbroker.devices import patch

patch()

here = str(Path(__file__).parent)
sys.path[:] = [entry for entry in sys.path if entry != here]
this = sys.modules.pop("sitecustomize")
try:
    import_module("sitecustomize")  # the next one in sys.path
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = this  # there is no other
