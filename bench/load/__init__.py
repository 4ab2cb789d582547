"""The compiled load: `load.c`, how it is built (`native.py`) and one running role of it (`role.py`)."""
