"""The limits that the protos' comments state in set phrases."""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.contract import protos

_NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = re.compile(
    rf"Range: (?P<minimum>{_NUMBER}) to (?P<maximum>{_NUMBER})(?P<seconds> seconds)?"
    r"(?:, multiples of (?P<multiple_of>\d+))?\.(?:\s|$)"
)
DEFAULT = re.compile(rf"Default: (?P<default>{_NUMBER})(?: seconds)?\.(?:\s|$)")
AT_MOST = re.compile(r"At most (\d+) (elements|characters|bytes)\b")
REQUIRED = re.compile(r"(?:^|\s)Required\.$")

LimitNumbers = Mapping[str, float | None]


def documented(files: tuple[FileDescriptorProto, ...]) -> dict[str, LimitNumbers]:
    """What the comments of every field say that holds a set phrase."""
    found: dict[str, LimitNumbers] = {}
    for field in protos.fields(files):
        numbers: dict[str, float | None] = {}
        if match := RANGE.search(field.comment):
            numbers |= {
                key: None if match[key] is None else float(match[key])
                for key in ("minimum", "maximum", "multiple_of")
            }
        if match := DEFAULT.search(field.comment):
            numbers["default"] = float(match["default"])
        for most, what in AT_MOST.findall(field.comment):
            numbers[f"max_{what}"] = float(most)
        if REQUIRED.search(field.comment):
            numbers["required"] = True
        if numbers:
            found[field.name] = numbers
    return found
