"""Layers between a task and the machine: which there are, how a worker puts them on, and whether they hold."""
