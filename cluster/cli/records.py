"""An outcome as the JSON that every command prints: the recorded fields, never the inline data. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from sandpool.outcome import Outcome, without_data


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Fields with their defaults left out, as in the record itself (docs/message-format.md)."""
    document: dict[str, Any] = msgspec.to_builtins(without_data(outcome))
    return document
