"""Chains that pause: what is kept, and that a picture comes out as if nothing had happened."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from safetensors.torch import save_file

from domains import paused_work
from domains.chain.backends import kept_chain
from domains.chain.backends.kept_chain import KeptCanvas
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.under_way import Upscaling
from domains.chain.backends.work import process
from domains.chain.jobs import ChainJob, ChainReport, PausedChain
from domains.chain.types import (
    DenoiseStep,
    RotateStep,
    SafetyStep,
    SharpenStep,
    Step,
    UpscaleStep,
)
from domains.safety import SafetyPolicy
from domains.session.jobs import EncodedImage, WorkPaused
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished
from tests.domains.chain.backends.test_work import job, model
from tests.domains.chain.backends.upscaling.files import CPU, loaded, small_compact

UPSCALING = 3
Wish = Callable[["Context"], bool]


@dataclass
class Context:
    """Keeps what is told, and asks the work to pause once that is wished for."""

    wish: Wish = lambda _heard: False
    told: list[object] = field(default_factory=list)

    def emit(self, event: object) -> None:
        self.told.append(event)

    def check_stop(self) -> None:
        if self.wish(self):
            raise WorkPaused

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.told if isinstance(each, kind)]

    def tiles(self, step: int) -> list[PieceFinished]:
        """Those of one step."""
        done, found = next(iter(self.kept_steps), 0), []
        for each in self.of(PieceFinished):
            if each.piece is Piece.STEP:
                done = each.done
            elif done == step - 1:
                found.append(each)
        return found

    @property
    def kept_steps(self) -> list[int]:
        """What the phase says of it where the work begins: it is told again once a network is
        read."""
        begun = [PhaseStarted(Phase.QUEUED), *self.of(PhaseStarted)]
        return [
            each.kept_steps
            for before, each in pairwise(begun)
            if each.phase is Phase.POSTPROCESSING and before.phase is not Phase.LOADING_MODEL
        ]

    @property
    def pieces(self) -> list[int]:
        """Steps that ended, by their numbers."""
        return [each.done for each in self.of(PieceFinished) if each.piece is Piece.STEP]


def after(pieces: int) -> Wish:
    """A pause once so many tiles and steps are done."""
    return lambda heard: len(heard.of(PieceFinished)) >= pieces


def a_step(heard: Context) -> bool:
    """A pause once a step is done."""
    return bool(heard.pieces)


class Turns:
    """A chain whose turns go on one after another, each in a worker of its own."""

    def __init__(self, work: ChainJob, folder: Path) -> None:
        self.job = structs.replace(work, paused_file=folder / "paused" / f"{'0' * 32}.paused")

    def pause(self, wish: Wish) -> Context:
        heard = Context(wish)
        report = process(self.job, UpscalerShelf(CPU), heard)  # type: ignore[arg-type]
        assert isinstance(report, PausedChain)
        assert not heard.of(EncodedImage)
        assert self.job.paused(report)
        assert self.job.due_images(report) == 0
        self.lost_tiles = report.kept.lost_tiles
        self.job = structs.replace(
            self.job, kept_steps=report.kept.steps, kept_tiles=report.kept.tiles
        )
        return heard

    def finish(self) -> Context:
        heard = Context()
        report = process(self.job, UpscalerShelf(CPU), heard)  # type: ignore[arg-type]
        assert isinstance(report, ChainReport)
        return heard


@pytest.fixture
def steps(tmp_path: Path) -> tuple[Step, ...]:
    return (
        RotateStep(90.0),  # what it comes to lies in memory otherwise than a file
        SharpenStep(2.0),
        UpscaleStep(factor=2, tile_pixels=16, model=model(tmp_path)),
        DenoiseStep(0.5),
    )


@pytest.fixture
def work(tmp_path: Path, steps: tuple[Step, ...]) -> ChainJob:
    return job(tmp_path, steps, (40, 48))


def file_of(heard: Context) -> bytes:
    [encoded] = heard.of(EncodedImage)
    data: bytes = encoded.data
    return data


def whole(work: ChainJob) -> bytes:
    """The file without a pause."""
    heard = Context()
    process(work, UpscalerShelf(CPU), heard)  # type: ignore[arg-type]
    return file_of(heard)


def test_a_pause_at_any_piece_comes_to_the_same_file(work: ChainJob, tmp_path: Path) -> None:
    wanted, pieces = Context(), 0
    process(work, UpscalerShelf(CPU), wanted)  # type: ignore[arg-type]
    for pieces in range(1, len(wanted.of(PieceFinished)) + 1):
        turns = Turns(work, tmp_path)
        heard = turns.pause(after(pieces))
        again = turns.finish()
        assert again.kept_steps == [len(heard.pieces)], pieces
        assert [*heard.pieces, *again.pieces] == [1, 2, 3, 4]
        assert file_of(again) == file_of(wanted), pieces
        tiles = [*heard.tiles(UPSCALING), *again.tiles(UPSCALING)]
        assert tiles == wanted.tiles(UPSCALING), "each tile was computed once"
    assert pieces > 8


def test_it_pauses_again_and_again_and_before_its_file_is_made(
    work: ChainJob, tmp_path: Path
) -> None:
    turns = Turns(work, tmp_path)
    turns.pause(a_step)
    turns.pause(a_step)
    assert turns.job.kept_steps == 2
    turns.pause(lambda heard: True)  # at once
    assert turns.job.kept_steps == 2
    turns.pause(lambda heard: len(heard.pieces) == 2)  # before the file is made
    assert turns.job.kept_steps == 4
    again = turns.finish()
    assert again.pieces == []
    assert file_of(again) == whole(work)


def test_nothing_is_kept_before_the_first_step(work: ChainJob, tmp_path: Path) -> None:
    turns = Turns(work, tmp_path)
    turns.pause(lambda heard: True)
    assert turns.job.kept_steps == 0
    assert turns.job.paused_file is not None
    assert not turns.job.paused_file.exists()
    assert file_of(turns.finish()) == whole(work)


def test_verdicts_of_steps_that_are_done_are_kept(tmp_path: Path) -> None:
    policy = SafetyPolicy("mine", 3)
    turns = Turns(job(tmp_path, (SafetyStep(policy=policy), SharpenStep()), (24, 20)), tmp_path)
    turns.pause(a_step)
    [encoded] = turns.finish().of(EncodedImage)
    assert encoded.safety is not None
    assert (encoded.safety.policy_id, encoded.safety.policy_version) == ("mine", 3)


def gone(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def of_others(path: Path) -> None:
    path.unlink()
    paused_work.write_kept(path, KeptCanvas(1, 1, b"abc"), 1000)


@pytest.mark.parametrize("harm", [gone, cut_off, one_bit, of_others])
def test_what_is_no_good_costs_steps_and_nothing_else(
    harm: Callable[[Path], None],
    work: ChainJob,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns = Turns(work, tmp_path)
    turns.pause(after(2))
    assert turns.job.paused_file is not None
    harm(turns.job.paused_file)
    again = turns.finish()
    assert again.kept_steps == [0]
    assert file_of(again) == whole(work)
    assert "begins anew" in caplog.text


def test_another_upscaler_or_chain_takes_nothing_up(work: ChainJob, tmp_path: Path) -> None:
    turns = Turns(work, tmp_path)
    turns.pause(after(2))
    other = structs.replace(
        turns.job, steps=(*work.steps[:1], SharpenStep(3.0), *work.steps[2:])
    )
    heard = Context()
    process(other, UpscalerShelf(CPU), heard)  # type: ignore[arg-type]
    assert heard.kept_steps == [0]

    halved = {name: tensor / 2 for name, tensor in small_compact().items()}
    save_file(halved, tmp_path / "a.safetensors")
    again = turns.finish()
    assert again.kept_steps == [0]
    assert file_of(again) == whole(work)


def test_a_disk_that_refuses_costs_steps_and_nothing_else(
    work: ChainJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    turns = Turns(work, tmp_path)
    turns.pause(a_step)
    monkeypatch.setattr(paused_work, "whole_file", full)
    turns.pause(a_step)
    assert turns.job.kept_steps == 1  # what was kept before
    assert "cannot be written: No space left on device" in caplog.text
    monkeypatch.undo()
    assert file_of(turns.finish()) == whole(work)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no mode bits")
def test_a_kept_chain_is_private(work: ChainJob, tmp_path: Path) -> None:
    turns = Turns(work, tmp_path)
    turns.pause(a_step)
    assert turns.job.paused_file is not None
    assert turns.job.paused_file.stat().st_mode & 0o077 == 0
    assert turns.job.paused_file.parent.stat().st_mode & 0o077 == 0


def test_a_kept_picture_has_the_bytes_of_its_size() -> None:
    with pytest.raises(ValueError, match="bytes of its size"):
        KeptCanvas(2, 1, b"abc")
    with pytest.raises(ValueError, match="bytes of its size"):
        KeptCanvas(1, 1, b"abc", b"ab")
    canvas = KeptCanvas(1, 1, b"abc", b"d").canvas()
    assert np.array_equal(canvas.whole(), [[list(b"abcd")]])


@pytest.mark.parametrize("overlap", [0, 8])
def test_every_tile_of_several_passes_is_computed_once(overlap: int, tmp_path: Path) -> None:
    """Eight times with a network of two: three passes of colours, and three of the alpha."""
    step = UpscaleStep(
        factor=8, tile_pixels=32, tile_overlap_pixels=overlap, model=model(tmp_path)
    )
    work = job(tmp_path, (step,), (192, 160))
    wanted = Context()
    process(work, UpscalerShelf(CPU), wanted)  # type: ignore[arg-type]
    turns, tiles, pauses = Turns(work, tmp_path), [], 0
    while len(tiles) < len(wanted.tiles(1)) - 5:
        tiles += turns.pause(after(5)).tiles(1)
        pauses += 1
    again = turns.finish()
    assert pauses > 3
    assert [*tiles, *again.tiles(1)] == wanted.tiles(1)
    assert file_of(again) == file_of(wanted)


def test_tiles_that_are_too_many_are_lost_and_the_steps_before_them_kept(
    work: ChainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(work, tmp_path)
    monkeypatch.setattr(kept_chain, "MOST_BYTES", 10_000)  # the picture alone has 1,920
    turns.pause(lambda heard: len(heard.tiles(UPSCALING)) == 3)
    assert (turns.job.kept_steps, turns.job.kept_tiles) == (2, 0)
    assert turns.lost_tiles
    again = turns.finish()
    assert again.kept_steps == [2]
    assert file_of(again) == whole(work)


def test_an_upscaling_goes_on_in_the_type_that_it_had_come_to(tmp_path: Path) -> None:
    """After numbers that were not finite its network stays in float32; one that is wider by
    now begins the step anew."""
    had, now = (
        Upscaling(torch.float32, [(np.zeros((1, 1, 3), np.uint8), 1)]),
        loaded(small_compact(), tmp_path),
    )
    now.network.half()
    now.data_type = torch.float16
    assert had.for_network(now) is had
    assert now.data_type == torch.float32
    narrow = Upscaling(torch.float16, [(np.zeros((1, 1, 3), np.uint8), 1)])
    assert narrow.for_network(now).tiles == 0
