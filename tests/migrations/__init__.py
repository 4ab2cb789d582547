"""Programs that others wrote, on pollbroker: their own tests, and what their devices cost.

`python -m tests.migrations [NAME]...` makes a virtual environment for each program, with a pinned version of it, runs
the program as it is and then by `pollbroker patched`, and prints what differs. It downloads from PyPI, so pytest does
not run it. docs/howto/programs.md has its results.

- `table.py`: the programs, and where their tests are.
- `environments.py`: their virtual environments, in a directory that is removed in the end.
- `comparing.py`: running both ways, and the tables that are printed.
- `traffic/`: for each program, a module that runs in its virtual environment, starts its device as its users do, sends
  messages through it, and prints figures. `traffic/measuring.py` is what they share.
"""
