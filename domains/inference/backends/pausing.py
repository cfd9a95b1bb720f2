"""Keeping the picture that a job is at when it pauses, and finding it when one goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import diffusers
import torch
from msgspec import structs

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.kept_chain import ChainProgress, KeptProgress, states_of
from domains.codec import encode
from domains.inference.backends.kept_picture import KeptPicture, read_picture, write_picture
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loops import PictureLoops
from domains.inference.backends.model_loading import state_of
from domains.inference.jobs import Companion, ControlPictures, GenerationJob
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.types import loads
from domains.paused_work import NotKept
from domains.picture.types import PreparedPicture
from domains.session.types import PreviewSettings

_log = logging.getLogger("deviceops.pausing")


def fingerprint_of(job: GenerationJob, model: LoadedModel) -> str:
    """What the bytes of a job's pictures depend on, with the numbers that `model` computes in:
    where it differs, nothing is taken up.

    Raises:
        DomainError: As `state_of`, for the other models that the job names.
    """
    asked = structs.replace(
        job.with_cached({}),
        previews=PreviewSettings(),
        picture=None,
        mask=None,
        controls=(),
        image_prompts=(),
        first_image=0,
        paused_file=None,
        kept_steps=0,
    )
    depends_on = (
        asked,
        [each.sha256 for each in (job.picture, job.mask) if each is not None],
        [[each.sha256 for each in _pictures(control)] for control in job.controls],
        [
            [each.sha256 for each in (*prompt.images, *prompt.masks)]
            for prompt in job.image_prompts
        ],
        (model.fingerprint, *map(_state, job.companions)),
        states_of(job.steps),
        [str(each.data_type) for each in model.data_types()],
        (model.device.type, str(torch.__version__), diffusers.__version__),
    )
    return hashlib.sha256(encode(depends_on)).hexdigest()


def _pictures(control: ControlPictures) -> Iterator[PreparedPicture]:
    yield from control.images
    if control.mask is not None:
        yield control.mask
    if control.larger is not None:
        yield from _pictures(control.larger)


def _state(companion: Companion) -> Fingerprint:
    if loads(companion.model_type):
        return state_of(companion.model_id, companion.place)
    return ConfinedFiles(companion.place).states(("",))


@dataclass
class PictureKeeper:
    """Has the unfinished picture of one job on disk over a pause.

    `fingerprint` is of the job, see `fingerprint_of`; networks compute on `device`. `chain` is
    how far what finishes the picture is, None before that has begun.
    """

    job: GenerationJob
    fingerprint: str
    device: torch.device
    loops: PictureLoops = field(default_factory=PictureLoops)
    chain: ChainProgress | None = None
    _index: int = -1
    _filed: tuple[int, int, int] = (0, 0, 0)  # steps, those of the chain, tiles of the next

    def begin(self, index: int) -> PictureLoops:
        """The loops of the next picture, as far as they were kept."""
        self._index, self._filed = index, (0, 0, 0)
        self.loops, self.chain = PictureLoops(), None
        job = self.job
        if index == job.first_image and job.kept_steps and job.paused_file is not None:
            try:
                found = read_picture(job.paused_file, self.fingerprint, index)
            except NotKept as why:
                _log.warning("picture %d of a paused session is drawn anew: %s", index, why)
            else:
                self.loops = PictureLoops(found.loops, found.widened)
                if found.chain is not None:
                    self.chain = found.chain.progress(self.device)
                self._filed = (self.loops.kept_steps, *self._chain_reached())
        return self.loops

    def finishing(self, canvas: Canvas) -> ChainProgress:
        """How far what finishes the picture is: where it was kept, or at the picture drawn."""
        if self.chain is None:
            self.chain = ChainProgress(canvas)
        return self.chain

    def _chain_reached(self) -> tuple[int, int]:
        return (0, 0) if self.chain is None else (self.chain.steps, self.chain.upscaling.tiles)

    def keep(self) -> int:
        """Keep the picture that was begun last as it is now; how many steps of it are kept.
        Where its chain does not fit, the steps before it are kept alone."""
        job = self.job
        if self._index < 0:
            return job.kept_steps  # what was kept before is there still
        steps, (finished, tiles) = self.loops.steps, self._chain_reached()
        ways = dict.fromkeys(((steps, finished, tiles), (steps, finished, 0), (steps, 0, 0)))
        for now in ways:
            if now <= self._filed or job.paused_file is None:
                break
            try:
                write_picture(job.paused_file, self._as_kept(now))
            except NotKept as why:
                _log.warning(
                    "picture %d of a session that pauses is lost: %s", self._index, why
                )
            else:
                self._filed = now
                break
        return self._filed[0]

    def _as_kept(self, now: tuple[int, int, int]) -> KeptPicture:
        picture = self.loops.as_kept(self.fingerprint, self._index)
        _, finished, tiles = now
        if self.chain is None or not finished + tiles:
            return picture
        return structs.replace(picture, chain=KeptProgress.of(self.chain, tiles=tiles > 0))

    def finish(self) -> None:
        """The picture is out: there is nothing of it to keep any more."""
        self.loops, self.chain, self._filed = PictureLoops(), None, (0, 0, 0)
