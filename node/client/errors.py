"""What a client's user can run into. Each text is one line: what is wrong, where, and what to do."""

from __future__ import annotations


class ClientError(Exception):
    """The mesh cannot be reached, or does not do what was asked."""


class JobFailed(ClientError):
    """A job cannot go on: it was rejected or cancelled, or one of its tasks failed where none may."""

    def __init__(self, job_id: bytes, reason: str, about: str = "") -> None:
        """about: the field of the spec that is refused, such as "limits.memory_bytes", if it is one."""
        super().__init__(f"job {job_id.hex()[:16]}: {reason}")
        self.job_id = job_id
        self.reason = reason
        self.about = about


def single_error(error: BaseException) -> BaseException:
    """The one error inside nested groups, or the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
