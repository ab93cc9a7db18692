"""Sandpool's client: enqueue SQL and code, await one recorded outcome.

The names below are the public ones; everything else in this package may change between releases.
"""

from sandpool.client import AsyncClient, AsyncHandle
from sandpool.job import Job, SqlJob
from sandpool.outcome import Ending, ErrorInfo, Manifest, Outcome, Usage, Verdict
from sandpool.sync import Client, Handle
from sandpool.transport import Progress
from sandpool.wire import JobStatus

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "Client",
    "Ending",
    "ErrorInfo",
    "Handle",
    "Job",
    "JobStatus",
    "Manifest",
    "Outcome",
    "Progress",
    "SqlJob",
    "Usage",
    "Verdict",
]
