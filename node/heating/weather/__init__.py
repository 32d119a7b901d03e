"""Weather over time: what a step of a sink needs to know, from a file or from a seed, and where the sun stands."""
