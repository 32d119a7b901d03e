"""Real processes, one network a test."""

from hearthmesh.testnet.fixture import testnet

__all__ = ["testnet"]
