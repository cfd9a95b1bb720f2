"""Lines from a probe process: believed only when they are what was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from domains.device.backends.answers import Answer, decode, encode
from domains.device.types import DeviceKind
from domains.values import ByteFigure
from tests.fakes.device import card


def line(**changes: Any) -> bytes:
    """A good answer about one CUDA card, with some of the card's values changed."""
    answer = json.loads(encode(DeviceKind.CUDA, [card(0)], ""))
    answer["adapters"][0].update(changes)
    return json.dumps(answer).encode()


def total(number: object) -> dict[str, object]:
    """A figure with that number."""
    return {"type": "ByteFigure", "value": number, "quality": "measured", "source": "a driver"}


@pytest.mark.parametrize(
    "adapter",
    [
        card(0),
        replace(
            card(3, slot="0000:3b:00", hardware_id="GPU-1"),
            total_memory=ByteFigure.measured(8 << 30, "a driver"),
            driver_version="580.1",
            runtime_version="torch 9",
            unified_memory=True,
            explanation="too old",
        ),
    ],
)
def test_an_answer_survives_the_way(adapter: Any) -> None:
    written = encode(DeviceKind.CUDA, [adapter], "none was found")

    assert decode(written.encode(), DeviceKind.CUDA) == Answer(
        DeviceKind.CUDA, (adapter,), "none was found"
    )


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"driver loaded",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        line(total_memory=total(-1)),
        line(total_memory=total(True)),
        line(total_memory=total("many")),
        line(unified_memory=1),
        line(torch_device="cpu"),
        line(torch_device="cuda:0; rm"),
        line(name=None),
        encode(DeviceKind.XPU, [], "").encode(),
        json.dumps({"kind": "cuda", "explanation": "", "adapters": [{}]}).encode(),
        encode(DeviceKind.CUDA, [card(0)] * 65, "").encode(),
    ],
)
def test_anything_else_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each way of being wrong has its words
        decode(written, DeviceKind.CUDA)


def test_texts_are_shortened_and_lose_folders_and_control_characters() -> None:
    answer = decode(
        line(
            name="x" * 5000, explanation="at C:\\Users\\me\\a.dll or /opt/b/c.so\x1b[31m\nend"
        ),
        DeviceKind.CUDA,
    )

    (adapter,) = answer.adapters
    assert len(adapter.name) == 256
    assert adapter.explanation == "at a.dll or c.so [31m end"
