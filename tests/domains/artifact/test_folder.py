"""Artifacts on disk: what a file is, and what lies beside it."""

from __future__ import annotations

import pytest

from domains.artifact.backends.folder import media_type

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"", "application/octet-stream"),
        (b"RIFF\x00\x00\x00\x00WAVE", "application/octet-stream"),
    ],
)
def test_content_is_known_by_its_first_bytes(head: bytes, expected: str) -> None:
    assert media_type(head) == expected
