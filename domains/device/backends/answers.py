"""What a probe process answers: one line of JSON for each kind of device.

The reader believes nothing about the writer: a driver may have written into the stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from domains.codec import Text, Value, decode_json, encode_json
from domains.device.types import Adapter, DeviceKind

MAX_LINE_BYTES = 1 << 16
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


class Answer(Value, frozen=True):
    """What looking for one kind came to."""

    kind: DeviceKind
    adapters: Annotated[tuple[Adapter, ...], Meta(max_length=64)] = ()
    explanation: Text = ""


def encode(kind: DeviceKind, adapters: Sequence[Adapter], explanation: str) -> str:
    """One line."""
    return encode_json(
        Answer(kind, tuple(map(cleaned, adapters)), one_line(explanation))
    ).decode()


def decode(line: bytes, kind: DeviceKind) -> Answer:
    """Read the answer about `kind`.

    Raises:
        ValueError: The line is not such an answer.
    """
    answer = decode_json(Answer, line)
    for adapter in answer.adapters:
        if not _TORCH_DEVICE.fullmatch(adapter.torch_device):
            raise ValueError("not a device of torch")
    if answer.kind is not kind or any(each.kind is not kind for each in answer.adapters):
        raise ValueError("not the answer that was asked for")
    return Answer(kind, tuple(map(cleaned, answer.adapters)), one_line(answer.explanation))


def cleaned(adapter: Adapter) -> Adapter:
    """The adapter with the driver's texts made fit to be shown."""
    total = adapter.total_memory
    return replace(
        adapter,
        total_memory=replace(total, source=one_line(total.source)),
        **{name: one_line(getattr(adapter, name)) for name in _TEXTS},
    )


def one_line(text: str) -> str:
    """One printable line without folders, of bounded length."""
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_TEXT]).split()
    return _FOLDERS.sub("", " ".join(words))[:_MAX_TEXT]
