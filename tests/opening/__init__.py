"""From endpoints and options to open sockets."""
