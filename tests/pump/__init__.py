"""The pumps and the hubs keep the contract of `pollbroker/pump/contract.py`."""
