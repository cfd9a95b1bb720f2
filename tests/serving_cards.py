"""A server in this process on a machine with made-up cards; workers and pictures are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from domains.device import build as device_build
from domains.device.types import Adapter
from server import serve, token
from server.compose import Composition
from server.config import Settings
from tests.fakes.cards import CardsProbe

_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Served:
    """Where the server answers, and the server itself."""

    address: str
    token: str
    app: Composition


@asynccontextmanager
async def serving_cards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cards: Sequence[Adapter]
) -> AsyncIterator[Served]:
    """From its start to its end; the processor is there beside the cards."""
    monkeypatch.setattr(device_build, "ProbeProcesses", lambda _: CardsProbe(*cards))
    settings = Settings(
        port=0,
        metrics_port=0,
        data_dir=folder / "data",
        runtime_dir=folder / "runtime",
        preload=False,
    )
    composed: list[Composition] = []

    def compose(settings: Settings) -> Composition:
        composed.append(Composition(settings))
        return composed[0]

    told: asyncio.Future[serve.Ready] = asyncio.get_running_loop().create_future()
    server = asyncio.ensure_future(serve.run(settings, compose=compose, ready=told.set_result))
    ready = await asyncio.wait_for(told, _PATIENCE_SECONDS)
    try:
        yield Served(ready.address, token.read(settings.token_path), composed[0])
    finally:
        ready.stop()
        ready.stop()
        await asyncio.wait_for(server, _PATIENCE_SECONDS)
