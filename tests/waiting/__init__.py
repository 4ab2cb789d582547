"""The waiters: which sockets are ready."""
