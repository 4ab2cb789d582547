"""What is asked, one module each with a `QUESTION`; `table.py` names them all."""
