"""Copies that are refused before anything is read."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from domains.errors import InvalidArgument, Reason
from domains.model.backends import disk_scanner
from domains.model.backends.confinement import Root
from domains.model.backends.disk_scanner import DiskScanner, describe
from domains.model.backends.model_ids import fit
from domains.model.backends.new_models import NewModels
from domains.model.backends.roots import Found
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.copies import Copies
from domains.model.errors import ModelNotFound, NameTaken, NoWritableRoot, PicklesNotConverted
from domains.model.types import Model
from tests.domains.model.disk import write_safetensors
from tests.fakes.model import contents_of

NOBODY = cast("Any", None)


def copies(root: Path, *, pickles: bool) -> Copies:
    (root / "old.ckpt").write_bytes(b"\x80\x04")
    write_safetensors(root / "ink.safetensors", {"lora_te2_x.lora_up.weight": (8, 8)})
    contents = contents_of(DiskScanner([root]), clock=lambda: datetime.now(UTC))
    catalogue = ModelCatalogue(contents, clock=lambda: datetime.now(UTC))
    return Copies(catalogue, NOBODY, NewModels([root]), id_of=fit, pickles=pickles)


async def test_pickles_are_opened_where_the_operator_wants_it(tmp_path: Path) -> None:
    allowed = await copies(tmp_path, pickles=True).source("old", "new")
    with pytest.raises(PicklesNotConverted) as refused:
        await copies(tmp_path, pickles=False).source("old", "new")

    assert allowed.model_id == "old"
    assert refused.value.reason is Reason.MODEL_UNSAFE_PICKLE
    assert (await copies(tmp_path, pickles=False).source("ink", "new")).model_id == "ink"


async def test_a_copys_id_is_free_and_its_source_is_there(tmp_path: Path) -> None:
    made = copies(tmp_path, pickles=True)
    with pytest.raises(NameTaken):
        await made.source("ink", "old")
    with pytest.raises(ModelNotFound):
        await made.source("nothing", "new")


def test_nothing_is_begun_where_no_root_can_be_written() -> None:
    with pytest.raises(NoWritableRoot):
        NewModels([]).begin()


@pytest.mark.parametrize("wanted", ["x" * 120, "ink-2-", "ink-2_"])
async def test_a_copys_id_is_one_that_its_file_gets(tmp_path: Path, wanted: str) -> None:
    """Else it would be written, and be there under another id than the one that is told."""
    assert fit(wanted) != wanted
    made = copies(tmp_path, pickles=True)
    with pytest.raises(InvalidArgument) as refused:
        await made.source("ink", wanted)

    (violation,) = refused.value.violations
    assert (violation.field, violation.reason) == ("target_model_id", Reason.NAME_INVALID)


async def test_a_copys_id_differs_from_others_in_more_than_case(tmp_path: Path) -> None:
    """The second of the two would have another id than the one that is told."""
    with pytest.raises(NameTaken):
        await copies(tmp_path, pickles=True).source("ink", "OLD")


def test_nothing_is_written_into_a_root_that_is_a_model_itself(tmp_path: Path) -> None:
    """It would change that model, and be in no catalogue."""
    model, root = tmp_path / "my-sdxl", tmp_path / "models"
    for folder in (model, root):
        folder.mkdir()
    (model / "model_index.json").write_text("{}")
    new = NewModels([model, root]).begin(model)

    assert new.folder.parent == root
    new.discard()
    with pytest.raises(NoWritableRoot):
        NewModels([model]).begin()
    assert [path.name for path in model.iterdir()] == ["model_index.json"]


async def test_what_arrives_while_a_slow_root_is_looked_through_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That look has passed its place already, and nobody waits for the end of it."""
    go_on = threading.Event()

    def slow(found: Found, root: Root) -> Model:
        go_on.wait(10)
        return describe(found, root)

    monkeypatch.setattr(disk_scanner, "describe", slow)
    write_safetensors(tmp_path / "ink.safetensors", {"lora_te2_x.lora_up.weight": (8, 8)})
    scanner = DiskScanner([tmp_path], patience=0.05)
    contents = contents_of(scanner, clock=lambda: datetime.now(UTC))
    catalogue = ModelCatalogue(contents, clock=lambda: datetime.now(UTC))
    assert await contents.known() == {}
    write_safetensors(tmp_path / "new.safetensors", {"lora_te2_x.lora_up.weight": (8, 8)})
    asyncio.get_running_loop().call_later(0.2, go_on.set)

    assert (await catalogue.arrived("new")).model_id == "new"
    (tmp_path / "new.safetensors").unlink()
    with pytest.raises(ModelNotFound):
        await catalogue.arrived("new")
