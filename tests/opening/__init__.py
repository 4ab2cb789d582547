"""Endpoints, options, and the sockets that are opened with them."""
