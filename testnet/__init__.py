"""Many nodes on one machine: real processes, for developers, tests and the demo."""
