"""What is compared, one module each, with `start(context, deployment)`; `table.py` names them all."""
