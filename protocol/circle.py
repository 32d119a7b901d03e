"""Whom a node keeps in mind: the nodes of its cell, a few contacts in every sibling prefix, and the replicas of jobs
that concern it. Nobody else stays once its link has ended."""

from __future__ import annotations

from collections.abc import Container, Iterable

from .cells import Cell
from .config import ProtocolConfig
from .liveness import Member


class Circle:
    """`watched`: nodes that have to be known whatever their cell, since a job depends on them."""

    def __init__(self, cell: Cell, config: ProtocolConfig) -> None:
        self.cell = cell
        self.watched: dict[bytes, None] = {}
        self._config = config
        self._contacts: dict[bytes, int] = {}

    @property
    def contacts(self) -> list[bytes]:
        """By level, the farthest first."""
        return sorted(self._contacts, key=lambda node: (self._contacts[node], node))

    def is_contact(self, node: bytes) -> bool:
        return node in self._contacts

    def concerns(self, node: bytes) -> bool:
        """Whether it is kept in mind."""
        return self.cell.holds(node) or node in self._contacts or node in self.watched

    def welcomes(self, node: bytes, serves: bool) -> bool:
        """Whether a node that is heard of is to be kept in mind. serves: it is no pure client."""
        if self.concerns(node):
            return True
        return serves and self._at(self.cell.level(node)) < self._config.contacts_a_level

    def thin_levels(self) -> list[int]:
        """Levels with fewer contacts than there should be."""
        return [level for level in range(self.cell.depth) if self._at(level) < self._config.contacts_a_level]

    def _at(self, level: int) -> int:
        return sum(each == level for each in self._contacts.values())

    def choose_contacts(self, members: Iterable[Member], linked: Container[bytes]) -> None:
        """Of the living ones at each level: those that it had, then those with a link, then the longest known."""
        by_level: dict[int, list[Member]] = {}
        for member in members:
            level = member.level
            if level < self.cell.depth and member.here and member.serves:
                by_level.setdefault(level, []).append(member)
        chosen: dict[bytes, int] = {}
        for level, found in by_level.items():
            found.sort(key=lambda m: (m.node not in self._contacts, m.node not in linked, m.changed_us, m.node))
            chosen.update((member.node, level) for member in found[: self._config.contacts_a_level])
        self._contacts = chosen
