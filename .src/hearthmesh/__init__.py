"""Hearthmesh: a decentralised compute mesh of heaters."""

__version__ = "0.1.0"
