"""The pure machines of the mesh: events in, effects out; no clock, no randomness, no I/O of their own."""
