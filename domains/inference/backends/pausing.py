"""Keeping the picture that a job is at when it pauses, and finding it when one goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import diffusers
import torch
from msgspec import structs

from domains.codec import encode
from domains.inference.backends.kept_picture import read_picture, write_picture
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
        first_image=0,
        paused_file=None,
        kept_steps=0,
    )
    depends_on = (
        asked,
        [each.sha256 for each in (job.picture, job.mask) if each is not None],
        [[each.sha256 for each in _pictures(control)] for control in job.controls],
        (model.fingerprint, *map(_state, job.companions)),
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

    `fingerprint` is of the job, see `fingerprint_of`.
    """

    job: GenerationJob
    fingerprint: str
    loops: PictureLoops = field(default_factory=PictureLoops)
    _index: int = -1
    _filed: int = 0

    def begin(self, index: int) -> PictureLoops:
        """The loops of the next picture, as far as they were kept."""
        self._index, self._filed, self.loops = index, 0, PictureLoops()
        job = self.job
        if index == job.first_image and job.kept_steps and job.paused_file is not None:
            try:
                found = read_picture(job.paused_file, self.fingerprint, index)
            except NotKept as why:
                _log.warning("picture %d of a paused session is drawn anew: %s", index, why)
            else:
                self.loops = PictureLoops(found.loops, found.widened)
                self._filed = self.loops.kept_steps
        return self.loops

    def keep(self) -> int:
        """Keep the picture that was begun last as it is now; how many steps of it are kept."""
        job = self.job
        if self._index < 0:
            return job.kept_steps  # what was kept before is there still
        if self.loops.steps > self._filed and job.paused_file is not None:
            try:
                write_picture(
                    job.paused_file, self.loops.as_kept(self.fingerprint, self._index)
                )
                self._filed = self.loops.steps
            except NotKept as why:
                _log.warning(
                    "picture %d of a session that pauses is lost: %s", self._index, why
                )
        return self._filed

    def finish(self) -> None:
        """The picture is out: there is nothing of it to keep any more."""
        self.loops, self._filed = PictureLoops(), 0
