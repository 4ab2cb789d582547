"""The project itself: what is built, what contributors are told, which words are used, who may be a peer."""
