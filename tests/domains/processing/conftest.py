"""Sessions on a clock that tests move, and what shows and changes them."""

from __future__ import annotations

import pytest

from domains.clients import Caller, Role
from domains.device.types import Device, DeviceKind, DeviceReport, DeviceState
from domains.processing.core.control import SessionControl
from domains.processing.core.lists import SessionLists
from domains.session.core.sessions import Sessions
from domains.values import ByteFigure
from tests.domains.session.conftest import (
    artifacts,
    clock,
    reader,
    roomy,
    runner,
    sessions,
)

__all__ = ["artifacts", "clock", "reader", "roomy", "runner", "sessions"]

CPU = Device(
    "cpu:0", DeviceKind.CPU, "A processor", "", "cpu", ByteFigure.unknown("nobody asks")
)
ADMIN = Caller("operator", Role.ADMIN)
MARY = Caller("mary", Role.RUN)


class OneDevice:
    """A machine with a processor and no other device."""

    async def get(self, name: str) -> DeviceReport:
        return DeviceReport(CPU, DeviceState.READY)


@pytest.fixture
def control(sessions: Sessions) -> SessionControl:
    return SessionControl(sessions)


@pytest.fixture
def lists(sessions: Sessions) -> SessionLists:
    return SessionLists(sessions, OneDevice())
