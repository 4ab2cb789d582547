"""What libzmq does when things go wrong, on purpose: both twins of the pump are held to what is promised then."""
