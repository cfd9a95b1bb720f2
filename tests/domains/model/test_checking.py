"""What a check says of files whose bytes are not those that were hashed before."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.errors import Reason
from domains.model.backends.inspector import inspection
from domains.model.backends.inspector.inspection import inspect
from domains.model.core.checking import changed_since
from domains.model.jobs import InspectJob
from domains.model.views import ValidationDepth
from domains.values import ModelPlace
from tests.domains.model.disk import write_safetensors
from tests.fakes.jobs import Listener

ONE, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(("known", "read"), [("", ONE), (ONE, ""), (ONE, ONE)])
def test_the_same_and_the_unknown_are_no_finding(known: str, read: str) -> None:
    assert changed_since(known, read) == ()


def test_other_bytes_of_the_same_size_and_time_are_one() -> None:
    (finding,) = changed_since(ONE, OTHER)
    assert finding.reason is Reason.MODEL_CHECKSUM_MISMATCH


def test_a_file_that_cannot_be_opened_has_no_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": (2,)})
    job = InspectJob("m", ModelPlace.of(tmp_path / "model.safetensors"), ValidationDepth.FULL)
    assert inspect(job, Listener()).sha256

    (tmp_path / "folder.safetensors").mkdir()
    job = InspectJob("m", ModelPlace.of(tmp_path / "folder.safetensors"), ValidationDepth.FULL)
    monkeypatch.setattr(inspection, "weight_files", lambda _files: [""])
    report = inspect(job, Listener())
    assert report.findings
    assert report.sha256 == ""
