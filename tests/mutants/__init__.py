"""Engines and pumps that are broken on purpose: the test kit finds every one of them."""
