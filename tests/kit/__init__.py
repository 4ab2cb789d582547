"""The property-test kit, `pollbroker.testing`, and what it says of the engine."""
