"""The client library: submit jobs, walk away, come back, and hold results that were verified here."""

from .errors import ClientError, JobFailed
from .job import Job
from .request import JobRequest
from .result import Result
from .session import Client
from .sync import SyncClient

__all__ = ["Client", "ClientError", "Job", "JobFailed", "JobRequest", "Result", "SyncClient"]
