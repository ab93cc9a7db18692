"""Logs as in production: plain tracebacks, no source files read on the event loop."""

import pytest

from cluster.telemetry import configure_logs


@pytest.fixture(autouse=True)
def production_logs() -> None:
    configure_logs()
