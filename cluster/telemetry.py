"""Structured logs: one JSON line per event on stderr, each with time, level, logger and its own keys.

Called once per process by its entry point (conductor actor, command line, tests). Statements, parameters, DSNs and
result values are never logged; a job is named by its id and tenant.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, as_json: bool = True, level: int = logging.INFO) -> None:
    """Route every structlog event to stderr. Tracebacks are plain text: pretty ones read source files, which blocks the
    event loop just when something is wrong, and print local values, which may be a tenant's."""
    renderer: structlog.typing.Processor
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
