"""Pickles of every kind that no model is: each refused with its reason, and none run."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.inspector.pickled import put
from domains.model.backends.inspector.stored import read_weights
from domains.model.backends.inspector.torch_archive import _span
from tests.domains.model.backends.inspector.pickles import BAD

_RUNNING = ("os.system", "subprocess.", "os.exec", "os.fork", "pickle.find_class")
_seen: list[str] = []
_listening = False


def _listen(event: str, _arguments: tuple[Any, ...]) -> None:
    if _listening and event.startswith(_RUNNING):
        _seen.append(event)


sys.addaudithook(_listen)


@pytest.mark.parametrize("name", BAD)
def test_each_is_refused_with_its_reason_and_runs_nothing(name: str, tmp_path: Path) -> None:
    global _listening
    reason, make = BAD[name]
    path = make(tmp_path / "model.ckpt")
    _seen.clear()
    _listening = True
    try:
        with open(path, "rb") as file, pytest.raises(FailedPrecondition) as refused:
            read_weights(file, pickle=True)
    finally:
        _listening = False

    assert refused.value.reason is reason, refused.value.message
    assert refused.value.message.endswith(".")
    assert str(tmp_path) not in refused.value.message
    assert _seen == []


@pytest.mark.parametrize(
    ("name", "asked_for"),
    [("os.system", "os.system"), ("eval", "builtins.eval"), ("names in the memo", "os.system")],
)
def test_an_unsafe_pickle_is_refused_by_the_name_it_asks_for(
    name: str, asked_for: str, tmp_path: Path
) -> None:
    make: Callable[[Path], Path] = BAD[name][1]
    with (
        open(make(tmp_path / "model.ckpt"), "rb") as file,
        pytest.raises(FailedPrecondition) as refused,
    ):
        read_weights(file, pickle=True)

    assert refused.value.metadata == {"global": asked_for}
    assert asked_for in refused.value.message


def test_every_reason_that_a_pickle_can_be_refused_with_is_among_them() -> None:
    assert {reason for reason, _ in BAD.values()} == {
        Reason.MODEL_ARCHIVE_INVALID,
        Reason.MODEL_FORMAT_UNSUPPORTED,
        Reason.MODEL_HEADER_INVALID,
        Reason.MODEL_HEADER_TOO_LARGE,
        Reason.MODEL_SHAPE_INVALID,
        Reason.MODEL_STRUCTURE_INVALID,
        Reason.MODEL_TRUNCATED,
        Reason.MODEL_UNSAFE_PICKLE,
    }


@pytest.mark.parametrize("offset", [-1, 2**62, 2**63, 2**80])
def test_an_entry_far_outside_the_file_is_refused(offset: int) -> None:
    entry = zipfile.ZipInfo("model/data.pkl")
    entry.header_offset = offset
    with pytest.raises(FailedPrecondition) as refused:
        _span(io.BytesIO(bytes(100)), entry, 100)
    assert refused.value.reason is Reason.MODEL_ARCHIVE_INVALID


def test_a_key_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        put({}, 10**5_000, None)
    assert refused.value.reason is Reason.MODEL_STRUCTURE_INVALID
