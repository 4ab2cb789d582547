"""The pumps, and the hubs that carry them, held to `pollbroker/pump/contract.py`."""
