"""The host that other nodes reach us through, and what rides on it."""
