"""What a node that runs confidential tasks has to do it with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ...crypto.envelope import KEY_BYTES
from ...protocol.jobs import JobState
from ...protocol.secrecy.results import BatchSealer
from .material import SecretMaterials


@dataclass(frozen=True, slots=True)
class Secrets:
    """node: this one's id.  key: of a job, while it is here; nobody keeps it."""

    node: bytes
    key: Callable[[bytes], bytearray | None]
    materials: SecretMaterials

    def sealer(self, view: JobState) -> BatchSealer:
        """For one batch's results. Raises SealError if the submitter's key is none."""
        return BatchSealer(view.job_id, view.submitter, self.node, os.urandom(KEY_BYTES))
