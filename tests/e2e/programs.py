"""Programs that tests start, and what they print."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any


async def run(*command: str, **environment: str) -> tuple[int, str, str]:
    """A program's exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},  # noqa: TID251  the child's own
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def objects(text: str) -> list[dict[str, Any]]:
    """JSON objects one after another."""
    found = []
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found
