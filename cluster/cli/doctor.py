"""`sandpool doctor`: what is present on this machine, what is missing and what to do. Changes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from cluster.cli.exits import Exit
from cluster.cli.findings import Finding, configured_findings, machine_findings
from cluster.cli.invocation import Invocation, configured
from cluster.cli.sandbox_findings import sandbox_findings
from cluster.errors import SettingsInvalid

DEFAULT_FOLDER = Path(".sandpool")
COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


@click.command()
@configured
def doctor(invocation: Invocation) -> Exit:
    """Say what is present on this machine, what is missing and what to do.

    With a configuration (--config, SANDPOOL_CONFIG or the default file) it also asks whether the broker, the databases
    and the file volumes named there can be reached. Exit codes: 0 all essentials are there, 1 one is missing.
    """
    findings = examine(invocation)
    well = not any(finding.state == "missing" for finding in findings)
    if invocation.as_json:
        invocation.emit({"ok": well, "findings": findings})
    else:
        print_findings(findings, well)
    return Exit.Ok if well else Exit.Incomplete


def examine(invocation: Invocation) -> list[Finding]:
    """Every finding, the machine's first."""
    if not invocation.has_settings:
        nothing = Finding(
            "configuration", "warning", "none here", "name one with --config, or use `sandpool up --local`"
        )
        return [*machine_findings(DEFAULT_FOLDER), *sandbox_findings(DEFAULT_FOLDER / "images"), nothing]
    try:
        settings = invocation.settings
    except SettingsInvalid as error:
        wrong = Finding("configuration", "missing", str(error), "correct the file")
        return [*machine_findings(DEFAULT_FOLDER), *sandbox_findings(DEFAULT_FOLDER / "images"), wrong]
    right = Finding("configuration", "ok", str(invocation.config_path))
    machine = [*machine_findings(Path(settings.folder)), *sandbox_findings(Path(settings.sandboxes.images))]
    return [*machine, right, *configured_findings(settings)]


def print_findings(findings: list[Finding], well: bool) -> None:
    """One line each, the remedy below what is not well, the summary last."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state:8}", fg=COLOURS[finding.state])
        click.echo(f"{state} {finding.name:{width}}  {finding.detail}")
        if finding.remedy:
            click.echo(f"{'':8} {'':{width}}  -> {finding.remedy}")
    missing = sum(finding.state == "missing" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    click.echo(
        f"{'all essentials are here' if well else 'essentials are missing'}: {missing} missing, {warnings} to look at"
    )
