"""The behaviours that ship."""
