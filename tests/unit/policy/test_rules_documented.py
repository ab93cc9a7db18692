"""docs/policy.md lists every rule, and every rule that the code can raise is declared."""

from __future__ import annotations

import re
from pathlib import Path

from workers.sql.policy.rules import RULES

FAMILIES = "|".join({rule.split(".")[0] for rule in RULES})
ROOT = Path(__file__).parents[3]


def test_the_reference_lists_every_rule_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", (ROOT / "docs" / "policy.md").read_text(), re.MULTILINE))
    assert listed == set(RULES)


def test_every_rule_in_the_code_is_declared_and_every_declared_rule_is_used() -> None:
    files = [
        *(ROOT / "workers" / "sql" / "policy").rglob("*.py"),
        ROOT / "workers/sql/judge.py",
        ROOT / "cluster/cli/policy.py",
    ]
    used = {
        rule
        for path in files
        if path.name != "rules.py"
        for rule in re.findall(rf'"((?:{FAMILIES})\.[a-z-]+)"', path.read_text())
    }
    assert used == set(RULES)
