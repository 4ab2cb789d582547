"""Tests of the wire: its core on simulated streams, and its ports on real sockets."""
