"""One model looked at again, by its own files: what a whole look would say of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from domains.model.backends.disk_scanner import DiskScanner
from domains.model.errors import PathOutsideRoot
from domains.model.types import Model, PredictionType
from tests.domains.model.disk import edit, sketch_demo, write_safetensors
from tests.domains.model.test_hub_layout import FIRST, Hub
from tests.domains.model.test_listed_files import CONFIG, MODELS, sketched

LINKS = pytest.mark.skipif(os.name == "nt", reason="making links takes rights there")


class Known:
    """A root that was looked through once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scanner = DiskScanner([root])
        self.models = {one.model_id: one for one in self.scanner.scan().models}

    def again(self, model_id: str) -> Model | None:
        """What is told of a model, which is what a scanner that knows nothing would tell."""
        told = self.scanner.again(self.models[model_id])
        fresh = {one.model_id: one for one in DiskScanner([self.root]).scan().models}
        assert told is None or told == fresh[model_id]
        return told


@pytest.fixture
def known(tmp_path: Path) -> Known:
    sketch_demo(tmp_path / "whole")
    sketched(tmp_path, MODELS / "emoji-comic.safetensors", name="comic")
    return Known(tmp_path)


def test_what_did_not_change_is_the_same(known: Known) -> None:
    for model_id, model in known.models.items():
        assert known.again(model_id) is model


def test_what_changed_is_told_and_kept_by_nobody(known: Known) -> None:
    edit(known.root / "whole" / "unet" / "config.json", in_channels=9)
    (known.root / "comic.yaml").write_text(CONFIG)

    folder, file = known.again("whole"), known.again("comic")

    assert folder is not None
    assert not folder.usable
    assert file is not None
    assert file.prediction_type is PredictionType.V_PREDICTION
    scanned = {one.model_id: one for one in known.scanner.scan().models}
    assert scanned == {"whole": folder, "comic": file}


def test_a_file_of_another_size_is_another_model(known: Known) -> None:
    path = write_safetensors(known.root / "comic.safetensors", {"a": (2,)})

    told = known.again("comic")

    assert told is not None
    assert told.size_bytes == path.stat().st_size
    assert told.weights[0].size_bytes == path.stat().st_size


def test_what_is_gone_only_a_look_can_tell(known: Known) -> None:
    (known.root / "comic.safetensors").unlink()
    (known.root / "whole" / "model_index.json").unlink()

    assert known.again("comic") is None
    assert known.again("whole") is None


def test_a_root_that_is_a_model_is_one_like_any_other(known: Known) -> None:
    itself = Known(known.root / "whole")
    (model_id,) = itself.models
    edit(known.root / "whole" / "unet" / "config.json", in_channels=9)

    told = itself.again(model_id)

    assert told is not None
    assert not told.usable


@LINKS
def test_a_snapshot_is_looked_at_through_its_links(known: Known, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    hub.snapshot("acme--pictures", FIRST, known.root / "whole")
    known = Known(hub.path)
    (model_id,) = known.models

    assert known.again(model_id) is known.models[model_id]


@LINKS
def test_a_model_that_has_become_a_link_outside_is_refused(known: Known) -> None:
    outside = known.root.parent / f"{known.root.name}-outside"
    shutil.copytree(known.root / "whole", outside)
    shutil.rmtree(known.root / "whole")
    (known.root / "whole").symlink_to(outside)

    with pytest.raises(PathOutsideRoot):
        known.scanner.again(known.models["whole"])
