"""The load, which sends and receives in C: its C files, how they are built (`native.py`), and how one runs
(`role.py`)."""
