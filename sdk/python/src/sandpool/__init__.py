"""Sandpool's client: enqueue SQL and code, await one recorded outcome.

The names below are the public ones; everything else in this package may change between releases.
"""

from sandpool.client import AsyncClient, AsyncHandle
from sandpool.job import CommandJob, Extraction, Gpu, Group, Job, Limits, PythonJob, SqlJob
from sandpool.outcome import Display, Ending, ErrorInfo, File, Manifest, Outcome, Usage, Verdict, Watermark
from sandpool.sync import Client, Handle
from sandpool.transport import Progress
from sandpool.wire import Explanation, JobStatus

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "Client",
    "CommandJob",
    "Display",
    "Ending",
    "ErrorInfo",
    "Explanation",
    "Extraction",
    "File",
    "Gpu",
    "Group",
    "Handle",
    "Job",
    "JobStatus",
    "Limits",
    "Manifest",
    "Outcome",
    "Progress",
    "PythonJob",
    "SqlJob",
    "Usage",
    "Verdict",
    "Watermark",
]
