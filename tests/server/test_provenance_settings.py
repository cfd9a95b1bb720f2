"""A server that is to sign pictures and cannot does not start, and says why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domains.provenance.backends import manifests
from server import serve
from server.config import ConfigError, Settings, load


async def start(settings: Settings) -> int:
    return await asyncio.wait_for(serve.run(settings), 60)


def changed(settings: Settings, **to: Any) -> Settings:
    return settings.model_copy(update=to)


async def test_a_key_that_is_none_ends_the_start(
    settings: Settings, tmp_path: Path, log_lines: Any
) -> None:
    for name in ("key", "certificate"):
        (tmp_path / name).write_text("nothing")
    wrong = changed(
        settings,
        provenance_manifest=True,
        provenance_key=tmp_path / "key",
        provenance_certificate=tmp_path / "certificate",
    )

    assert await start(wrong) == serve.EXIT_BAD_SETTING

    assert any("provenance_key" in line["event"] for line in log_lines)


async def test_without_the_library_pictures_cannot_be_signed_by_default(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, log_lines: Any
) -> None:
    monkeypatch.setattr(manifests, "find_spec", lambda name: None)

    assert await start(changed(settings, provenance_manifest=True)) == serve.EXIT_BAD_SETTING

    assert any("pip install 'device-operations[provenance]'" in x["event"] for x in log_lines)


def test_a_key_without_its_certificate_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")

    with pytest.raises(ConfigError, match="provenance_certificate and provenance_key"):
        load(provenance_key=tmp_path / "key")
    with pytest.raises(ConfigError, match="provenance_anchors: there is no such file"):
        load(provenance_anchors=tmp_path / "none")
