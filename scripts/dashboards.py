"""Writes configs/grafana/*.json: `python scripts/dashboards.py`. The dashboards are data, so that a change is a line.

A test compares the files with what this makes, and every metric in an expression with `cluster/metrics.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path("configs/grafana")
RATE = "[$__rate_interval]"
Panel = tuple[str, str, list[tuple[str, str]]]
"""Title, unit, and (expression, legend) of each line."""


def quantile(q: float, metric: str, by: str, where: str = "") -> str:
    return f"histogram_quantile({q}, sum by (le, {by}) (rate(ray_{metric}_bucket{where}{RATE})))"


JOBS: list[Panel] = [
    ("Jobs per second, by ending", "ops", [(f"sum by (ending) (rate(ray_sandpool_jobs_total{RATE}))", "{{ending}}")]),
    ("Jobs per second, by tenant", "ops", [(f"sum by (tenant) (rate(ray_sandpool_jobs_total{RATE}))", "{{tenant}}")]),
    ("Waiting in the broker", "short", [("sum by (queue) (ray_sandpool_queue_messages)", "{{queue}}")]),
    (
        "Held by the schedulers",
        "short",
        [
            ("sum(ray_sandpool_jobs_under_way)", "under way"),
            ("sum by (line) (ray_sandpool_jobs_in_line)", "in line: {{line}}"),
        ],
    ),
    ("Each stage, median", "s", [(quantile(0.5, "sandpool_stage_seconds", "stage"), "{{stage}}")]),
    ("Each stage, 99 of 100", "s", [(quantile(0.99, "sandpool_stage_seconds", "stage"), "{{stage}}")]),
    (
        "Mean run, by kind of job",
        "s",
        [
            (
                (
                    f'sum by (kind) (rate(ray_sandpool_stage_seconds_sum{{stage="run"}}{RATE}))'
                    f' / sum by (kind) (rate(ray_sandpool_stage_seconds_count{{stage="run"}}{RATE}))'
                ),
                "{{kind}}",
            )
        ],
    ),
    ("Denials, by rule", "ops", [(f"sum by (rule) (rate(ray_sandpool_denials_total{RATE}))", "{{rule}}")]),
    (
        "Attempts, by ending",
        "ops",
        [(f"sum by (kind, ending) (rate(ray_sandpool_attempts_total{RATE}))", "{{kind}} {{ending}}")],
    ),
    (
        "Sent back, by why",
        "ops",
        [
            (f"sum by (code) (rate(ray_sandpool_retries_total{RATE}))", "{{code}}"),
            (f"sum by (tenant) (rate(ray_sandpool_parked_total{RATE}))", "parked: {{tenant}}"),
        ],
    ),
    ("Dead letters", "short", [(f"sum by (reason) (increase(ray_sandpool_dead_letters_total{RATE}))", "{{reason}}")]),
    ("Results", "Bps", [(f"sum by (tenant) (rate(ray_sandpool_result_bytes_total{RATE}))", "{{tenant}}")]),
    ("Rows", "ops", [(f"sum by (tenant) (rate(ray_sandpool_result_rows_total{RATE}))", "{{tenant}}")]),
    ("Schedulers", "short", [("sum(ray_sandpool_up)", "up")]),
]
WORKERS: list[Panel] = [
    ("Connections", "short", [("sum by (database, state) (ray_sandpool_pool_connections)", "{{database}} {{state}}")]),
    (
        "Statements",
        "short",
        [
            ("sum by (database) (ray_sandpool_pool_running)", "{{database}} running"),
            ("sum by (database) (ray_sandpool_pool_waiting)", "{{database}} waiting"),
        ],
    ),
    ("Sandboxes", "short", [("sum by (node, state) (ray_sandpool_sandboxes)", "{{node}} {{state}}")]),
    (
        "Warm hits",
        "percentunit",
        [
            (
                (
                    f'sum by (node) (rate(ray_sandpool_sandbox_starts_total{{how="warm"}}{RATE}))'
                    f" / sum by (node) (rate(ray_sandpool_sandbox_starts_total{RATE}))"
                ),
                "{{node}}",
            )
        ],
    ),
    (
        "Until a sandbox is there",
        "s",
        [
            (quantile(0.5, "sandpool_sandbox_hand_out_seconds", "image"), "{{image}} median"),
            (quantile(0.99, "sandpool_sandbox_hand_out_seconds", "image"), "{{image}} 99 of 100"),
        ],
    ),
    (
        "Memory for sandboxes",
        "bytes",
        [("sum by (node, state) (ray_sandpool_host_memory_bytes)", "{{node}} {{state}}")],
    ),
    ("CPUs for sandboxes", "short", [("sum by (node, state) (ray_sandpool_host_cpus)", "{{node}} {{state}}")]),
    (
        "GPU memory",
        "bytes",
        [("sum by (node, gpu, state) (ray_sandpool_gpu_memory_bytes)", "{{node}} {{gpu}} {{state}}")],
    ),
    ("GPUs that are well", "short", [("sum by (node) (ray_sandpool_gpu_healthy)", "{{node}}")]),
]


def panel(number: int, title: str, unit: str, lines: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(lines)
        ],
    }


def dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["sandpool"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": [panel(number, *each) for number, each in enumerate(panels)],
    }


def documents() -> dict[str, str]:
    """File name -> its text."""
    made = {
        "jobs.json": dashboard("sandpool-jobs", "Sandpool: jobs", JOBS),
        "workers.json": dashboard("sandpool-workers", "Sandpool: pools, hosts, GPUs", WORKERS),
    }
    return {name: json.dumps(document, indent=2) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
