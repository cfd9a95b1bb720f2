"""The C# client against a running server: its own tests, started from here."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.running import RunningServer

CLIENTS = Path(__file__).parents[2] / "clients" / "csharp"
PATIENCE_SECONDS = 600
_PASSED = re.compile(r"^Passed!\s+- Failed:\s+0, Passed:\s+(\d+), Skipped:\s+0,", re.MULTILINE)


@pytest.mark.skipif(shutil.which("dotnet") is None, reason="no .NET SDK: dotnet is not on PATH")
async def test_the_csharp_client_draws_cancels_reads_errors_and_moves_bytes(
    server: RunningServer,
) -> None:
    """`dotnet test` compiles the client without a warning and every test of it passes."""
    process = await asyncio.create_subprocess_exec(
        *("dotnet", "test", str(CLIENTS), "--nologo"),
        *("--environment", f"DEVICEOPS_ADDRESS={server.address}"),
        *("--environment", f"DEVICEOPS_TOKEN={server.token}"),
        *("--environment", f"OTHER_CLIENTS_TOKEN={await server.named('csharp-other')}"),
        *("--environment", f"OPERATORS_COMMAND={sys.executable} -m server.cli"),
        *("--environment", f"DEVICEOPS_DATA_DIR={server.data_dir}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode("utf-8", "replace")

    assert process.returncode == 0, said
    passed = _PASSED.search(said)
    assert passed is not None, said
    assert int(passed[1]) >= 60, said
