"""The questions of the bench. Each module has a `QUESTION`; `table.py` lists them."""
