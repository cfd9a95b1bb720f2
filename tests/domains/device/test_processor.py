"""What the processor is called, on each system."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from domains.device.backends import cpu


def test_windows_tells_the_makers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Key:
        def __enter__(self) -> str:
            return "key"

        def __exit__(self, *_: object) -> None:
            return None

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE="machine",
        OpenKey=lambda *_: Key(),
        QueryValueEx=lambda *_: ("AMD Ryzen 5 2500U with Radeon Vega  Mobile Gfx   ", 1),
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(platform, "processor", lambda: "AMD64 Family 23 Model 17 Stepping 0")

    with monkeypatch.context() as on_windows:
        on_windows.setattr(sys, "platform", "win32")
        named = cpu._name()

        def refuse(*_: object) -> None:
            raise FileNotFoundError

        registry.OpenKey = refuse
        unnamed = cpu._name()

    assert named == "AMD Ryzen 5 2500U with Radeon Vega Mobile Gfx"
    assert unnamed == "AMD64 Family 23 Model 17 Stepping 0"


def test_macos_tells_the_makers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "Apple M2 Pro\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(platform, "processor", lambda: "arm")

    with monkeypatch.context() as on_mac:
        on_mac.setattr(sys, "platform", "darwin")
        named = cpu._name()

    assert named == "Apple M2 Pro"
