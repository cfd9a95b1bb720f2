"""What becomes of a model between the look that found it and its load."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domains.errors import DomainError, FailedPrecondition, Reason
from domains.inference.backends.engine import Engine
from domains.model.errors import ModelNotFound, PathOutsideRoot
from domains.model.jobs import LoadJob
from domains.shortages import shortage_of
from domains.values import ModelPlace
from tests.domains.model.disk import DEMO, copy_demo
from tests.fakes.jobs import Listener

WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo model in a root that it has for itself."""
    return copy_demo(tmp_path / "root" / "model")


def load(model: Path, engine: Engine | None = None) -> None:
    (engine or Engine("cpu")).load(LoadJob("model", ModelPlace.of(model)), Listener())


def refusal(act: Callable[[], None]) -> DomainError:
    with pytest.raises(DomainError) as refused:
        act()
    return refused.value


@pytest.mark.parametrize(
    "part",
    [
        "",
        "unet",
        WEIGHTS,
        "unet/config.json",
        "model_index.json",
        "tokenizer",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_part_that_became_a_link_outside_is_refused(
    model: Path, tmp_path: Path, part: str
) -> None:
    outside = tmp_path / "outside"
    place = model / part
    if not place.exists():
        source = next(model.glob("tokenizer/*.json"))
        shutil.copy(source, place)
    shutil.move(place, outside)
    place.symlink_to(outside)

    assert type(refusal(lambda: load(model))) is PathOutsideRoot


def test_links_inside_the_root_are_drawn_with(model: Path) -> None:
    """As a download cache lays them out."""
    blobs = model.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(f for f in model.rglob("*") if f.is_file())):
        blob = blobs / f"{number}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))

    load(model)


def test_a_model_that_was_loaded_is_judged_again_before_it_is_used(
    model: Path, tmp_path: Path
) -> None:
    engine = Engine("cpu")
    load(model, engine)
    shutil.move(model / WEIGHTS, tmp_path / "outside")
    (model / WEIGHTS).symlink_to(tmp_path / "outside")

    assert refusal(lambda: load(model, engine)).reason is Reason.PATH_OUTSIDE_ROOT


def test_a_model_that_is_gone_is_not_found(model: Path) -> None:
    shutil.rmtree(model)

    error = refusal(lambda: load(model))

    assert type(error) is ModelNotFound
    assert error.metadata == {"model_id": "model"}
    assert str(model) not in error.message


def test_what_took_its_place_is_no_model(model: Path) -> None:
    shutil.rmtree(model)
    os.mkfifo(model)

    assert refusal(lambda: load(model)).reason is Reason.MODEL_FORMAT_UNSUPPORTED


@pytest.mark.parametrize("part", [WEIGHTS, "model_index.json", "vae/config.json"])
def test_a_pipe_in_a_files_place_is_not_waited_for(model: Path, part: str) -> None:
    (model / part).unlink()
    os.mkfifo(model / part)

    assert refusal(lambda: load(model)).reason is Reason.MODEL_INCOMPLETE


@pytest.mark.parametrize("name", [Path(WEIGHTS).name, "model_index.json"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EIO, Reason.MODEL_INCOMPLETE), (errno.EMFILE, Reason.HOST_LIMIT_REACHED)],
)
def test_a_machine_that_cannot_read_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, reason: Reason
) -> None:
    original = os.open

    def fail(path: Any, flags: int, **options: Any) -> int:
        if path == name:
            raise OSError(code, os.strerror(code))
        return original(path, flags, **options)

    monkeypatch.setattr(os, "open", fail)

    with pytest.raises((FailedPrecondition, OSError)) as refused:
        load(DEMO)
    error = refused.value
    found = error if isinstance(error, DomainError) else shortage_of(error)
    assert found is not None
    assert found.reason is reason
