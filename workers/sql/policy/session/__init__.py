"""The policy for sessions of the database broker: pure, from (text, facts, policy, catalog, tenant) to what the broker
does."""

from workers.sql.policy.session.decide import judge_session
from workers.sql.policy.session.parameters import plain_parameter_types
from workers.sql.policy.session.settings import REPORTED, begin_sql, local_settings_sql
from workers.sql.policy.session.startup import judge_startup
from workers.sql.policy.session.verdict import (
    Answer,
    Forward,
    Own,
    Protocol,
    Refuse,
    SessionFacts,
    SessionVerdict,
    Several,
)

__all__ = [
    "REPORTED",
    "Answer",
    "Forward",
    "Own",
    "Protocol",
    "Refuse",
    "SessionFacts",
    "SessionVerdict",
    "Several",
    "begin_sql",
    "judge_session",
    "judge_startup",
    "local_settings_sql",
    "plain_parameter_types",
]
