"""Ports of the wire on real sockets: with peers of libzmq's, and with peers that send whatever a test likes."""
