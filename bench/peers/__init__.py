"""The peers: the brokers and relays that are compared. Each is a module with `start(context, deployment)`; `table.py`
lists them."""
