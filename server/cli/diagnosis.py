"""Run the doctor's checks in order and show what they found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from server.cli.checks import Finding, Verdict, note, ok, problem
from server.cli.checks.data_folder import check_data_folder
from server.cli.checks.machine import check_packages, check_python, check_workers
from server.cli.checks.settings import (
    check_config,
    check_disk,
    check_model_roots,
    check_port,
    check_token,
    check_token_list,
)
from server.cli.failures import CallFailed
from server.cli.target import ServerOptions, resolve
from server.cli.views import write_json
from server.cli.wording import printable


def diagnose(options: ServerOptions, config: Path | None) -> Iterator[Finding]:
    """Every finding, as it is found."""
    yield check_python()
    yield check_packages()
    finding, settings = check_config(config)
    yield finding
    if settings is None:
        return
    yield check_token(settings)
    yield check_token_list(settings)
    yield check_disk(settings)
    yield from check_data_folder(settings)
    yield check_model_roots(settings)
    interpreters = {"": Path(sys.executable)}
    interpreters |= {str(kind): path for kind, path in settings.worker_python.items()}
    yield from check_workers(interpreters)
    running = list(_server(options))
    if not running:
        yield check_port(settings)
        yield note("server", "not running", "Start it with: deviceops serve")
    yield from running


def _server(options: ServerOptions) -> Iterator[Finding]:
    """Findings about the server; none when no server runs and none was named."""
    from server.cli.checks.running import (
        check_devices,
        check_health,
        check_models,
        check_version,
    )
    from server.cli.client import connect

    try:
        target = resolve(options)
        with connect(target) as client:
            health = check_health(client)
            yield ok("server", f"answers at {target.address}")
            yield from health
            yield from check_version(client)
            yield from check_devices(client)
            yield from check_models(client)
    except CallFailed as error:
        failure = error.failure
        if failure.status == "UNAVAILABLE" and options.server is None:
            return
        yield problem("server", failure.message, failure.advice)


def show(findings: Iterator[Finding], *, as_json: bool) -> int:
    """Show the findings as they come; the exit code."""
    seen: list[Finding] = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            print(_lines(finding), flush=True)
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in seen)
    if as_json:
        facts = [asdict(finding) for finding in seen]
        write_json({"type": "doctor", "problem_count": problems, "findings": facts})
    else:
        noun = "problem" if problems == 1 else "problems"
        print("No problems." if not problems else f"{problems} {noun}.")
    return 1 if problems else 0


def _lines(finding: Finding) -> str:
    line = f"{finding.verdict:<8} {printable(finding.name)}: {printable(finding.found)}"
    if finding.advice:
        line += "".join(f"\n{'':8} -> {part}" for part in finding.advice.splitlines())
    return line
