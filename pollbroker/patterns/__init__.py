"""The behaviours that ship with pollbroker, each with its device."""
