"""Which container images an owner lets strangers' jobs run. Without an image in the list, none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .native_config import MAX_SLOTS

MAX_IMAGES = 64
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def is_image_digest(text: str) -> bool:
    """Whether it names an image by its manifest's digest, as an archive's index has it; tags name nothing."""
    return _DIGEST.match(text) is not None


@dataclass(frozen=True, slots=True)
class OciRuntimeConfig:
    """The container runtime of one node.

    images: digests that jobs may name.  memory_bytes: the most that a job may ask for.  processes: the most
    processes and threads at a time.  quota_bytes: of the images kept.  slots: tasks at a time.  uid: where the node
    is root, the user and group that all containers run as; no account needs to exist, and none should.
    nice: 0 … 19.  disk_reserve_bytes: nothing is loaded, and no checkpoint written, when the disk has less left.
    """

    images: tuple[str, ...] = ()
    memory_bytes: int = 1 << 30
    processes: int = 64
    quota_bytes: int = 10 << 30
    slots: int = 1
    uid: int = 64_400
    nice: int = 10
    disk_reserve_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        for image in self.images:
            if not is_image_digest(image):
                raise ValueError(f"{image[:80]!r} is no image digest: sha256: and 64 hex digits")
        if len(self.images) > MAX_IMAGES:
            raise ValueError(f"at most {MAX_IMAGES} images")
        if not 1 <= self.slots <= MAX_SLOTS:
            raise ValueError(f"slots must be within 1 and {MAX_SLOTS}")
        if not 1_000 <= self.uid <= 2**31 - 1:
            raise ValueError("uid must be at least 1000: the uids below belong to the system")
        if not 0 <= self.nice <= 19:
            raise ValueError("nice must be within 0 and 19")
