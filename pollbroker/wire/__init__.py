"""The wire: ports that speak ZMTP themselves, in the engine's thread (RFC 23, RFC 37)."""
