"""What heat goes into: thermal networks whose steps are exact. Pure: no I/O, no clock, no randomness."""
