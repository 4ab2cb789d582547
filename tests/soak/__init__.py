"""Hours of traffic with peers that come, go, are killed and send garbage: `python -m tests.soak --seconds 3600`."""
