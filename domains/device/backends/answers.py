"""What a probe process answers: one line of JSON for each kind of device.

The reader believes nothing about the writer: a driver may have written into the stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure, FigureQuality

MAX_LINE_BYTES = 1 << 16
_MAX_ADAPTERS = 64
_MAX_TEXT = 256
_TEXTS = (
    "name",
    "vendor",
    "torch_device",
    "slot",
    "hardware_id",
    "driver_version",
    "runtime_version",
    "explanation",
)
_TORCH_DEVICE = re.compile(r"(cuda|xpu|mps|privateuseone):\d{1,3}")
# Clients are never shown where things lie on this machine's disk.
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s:'\"\\/]+[\\/])+")


@dataclass(frozen=True)
class Answer:
    """What looking for one kind came to."""

    kind: DeviceKind
    adapters: tuple[Adapter, ...] = ()
    explanation: str = ""


def encode(kind: DeviceKind, adapters: Sequence[Adapter], explanation: str) -> str:
    """One line."""
    listed = [
        {name: getattr(adapter, name) for name in _TEXTS}
        | {
            "unified_memory": adapter.unified_memory,
            "total_bytes": adapter.total_memory.value,
            "total_source": adapter.total_memory.source,
        }
        for adapter in adapters
    ]
    return json.dumps({"kind": kind.value, "explanation": explanation, "adapters": listed})


def decode(line: bytes, kind: DeviceKind) -> Answer:
    """Read the answer about `kind`.

    Raises:
        ValueError: The line is not such an answer.
    """
    try:
        answer = json.loads(line)
        if answer["kind"] != kind.value or len(answer["adapters"]) > _MAX_ADAPTERS:
            raise ValueError("not the answer that was asked for")
        adapters = tuple(_adapter(kind, item) for item in answer["adapters"])
        return Answer(kind, adapters, _text(answer["explanation"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not an answer") from error


def _adapter(kind: DeviceKind, item: dict[str, Any]) -> Adapter:
    texts = {name: _text(item[name]) for name in _TEXTS}
    total = item["total_bytes"]
    if total is not None and (type(total) is not int or not 0 <= total < 1 << 62):
        raise ValueError("not a number of bytes")
    if type(item["unified_memory"]) is not bool:
        raise ValueError("not a truth value")
    if not _TORCH_DEVICE.fullmatch(texts["torch_device"]):
        raise ValueError("not a device of torch")
    quality = FigureQuality.UNKNOWN if total is None else FigureQuality.MEASURED
    figure = ByteFigure(total, quality, _text(item["total_source"]))
    return Adapter(
        kind=kind, total_memory=figure, unified_memory=item["unified_memory"], **texts
    )


def _text(value: object) -> str:
    """One printable line without folders, of bounded length."""
    if not isinstance(value, str):
        raise ValueError("not text")
    words = "".join(c if c.isprintable() else " " for c in value[: 4 * _MAX_TEXT]).split()
    return _FOLDERS.sub("", " ".join(words))[:_MAX_TEXT]
