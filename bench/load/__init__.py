"""The compiled load: C files, how they are built (`native.py`) and one running role of it (`role.py`)."""
