"""How far a chain has come on a picture, kept over a pause and taken up again."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import PIL
import torch
from msgspec import Meta, structs

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.kept_upscaling import KeptUpscaling
from domains.chain.backends.reading import read_canvas
from domains.chain.backends.upscaling.under_way import Upscaling
from domains.chain.jobs import ChainJob, ChainKept, models_of
from domains.chain.types import MOST_STEPS, Steps
from domains.codec import Count, Sha256, Value, encode
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.paused_work import NotKept, read_kept, write_kept
from domains.picture.types import MOST_EDGE, MOST_PIXELS
from domains.safety import SafetyVerdict
from domains.session.types import PreviewSettings

_MOST_VERDICT_BYTES = 1024 * 1024
MOST_BYTES = 8 * MOST_PIXELS + _MOST_VERDICT_BYTES
"""Of a kept chain: the largest picture with its alpha, what safety steps said, and as much
again for tiles of an upscaling."""
_log = logging.getLogger("deviceops.pausing")

_Edge = Annotated[int, Meta(ge=1, le=MOST_EDGE)]
_Data = Annotated[bytes, Meta(max_length=3 * MOST_PIXELS)]


class KeptCanvas(Value, frozen=True):
    """A picture between two steps: its colours and, unless all is opaque, its alpha, row by
    row."""

    width: _Edge
    height: _Edge
    colours: _Data
    alpha: _Data | None = None

    def __post_init__(self) -> None:
        count = self.width * self.height
        if len(self.colours) != 3 * count or (
            self.alpha is not None and len(self.alpha) != count
        ):
            raise ValueError("a picture has the bytes of its size")

    @classmethod
    def of(cls, canvas: Canvas) -> KeptCanvas:
        """The picture's bytes."""
        alpha = None if canvas.alpha is None else canvas.alpha.tobytes()
        return cls(*canvas.size, canvas.pixels.tobytes(), alpha)

    def canvas(self) -> Canvas:
        """The picture again."""
        colours = self._levels(self.colours, 3)
        return Canvas(colours, None if self.alpha is None else self._levels(self.alpha))

    def _levels(self, data: bytes, *channels: int) -> Pixels:
        # A copy: steps are used to memory that could be written to.
        levels = np.frombuffer(data, np.uint8).copy()
        return levels.reshape((self.height, self.width, *channels))


@dataclass
class ChainProgress:
    """A picture after so many steps of a chain, the verdicts of those that came to one, and how
    far the step at work is, where that is an upscaling."""

    canvas: Canvas
    steps: int = 0
    verdicts: list[SafetyVerdict] = field(default_factory=list)
    upscaling: Upscaling = field(default_factory=Upscaling)

    def reach(self, canvas: Canvas) -> None:
        """One more step has come to that."""
        # In one piece, as a picture that was kept is: what follows must not tell them apart.
        alpha = None if canvas.alpha is None else np.ascontiguousarray(canvas.alpha)
        self.canvas = Canvas(np.ascontiguousarray(canvas.pixels), alpha)
        self.steps, self.upscaling = self.steps + 1, Upscaling()


class KeptProgress(Value, frozen=True):
    """See `ChainProgress`."""

    steps: Count
    canvas: KeptCanvas
    verdicts: Annotated[tuple[SafetyVerdict, ...], Meta(max_length=MOST_STEPS + 1)] = ()
    upscaling: KeptUpscaling | None = None

    @classmethod
    def of(cls, progress: ChainProgress, *, tiles: bool) -> KeptProgress:
        """How far it is, with or without the tiles of the step at work."""
        return cls(
            progress.steps,
            KeptCanvas.of(progress.canvas),
            tuple(progress.verdicts),
            KeptUpscaling.of(progress.upscaling) if tiles else None,
        )

    def progress(self, device: torch.device) -> ChainProgress:
        """The same again, with what networks go on with on `device`."""
        kept = self.upscaling
        upscaling = Upscaling() if kept is None else kept.upscaling(device)
        return ChainProgress(self.canvas.canvas(), self.steps, [*self.verdicts], upscaling)


class KeptChain(Value, frozen=True):
    """How far the job with that fingerprint is."""

    fingerprint: Sha256
    at: KeptProgress


class ChainKeeper:
    """Has the progress of one job on disk over a pause.

    Args:
        job: Whose.
        device: Where its networks compute.
    """

    def __init__(self, job: ChainJob, device: torch.device) -> None:
        self._job, self._device = job, device
        self._progress: ChainProgress | None = None
        self._fingerprint = ""
        self._filed = (job.kept_steps, job.kept_tiles)

    def begin(self) -> ChainProgress:
        """The progress that was kept, or the picture as it was given.

        Raises:
            Unavailable: As `read_canvas`.
            FailedPrecondition: A model's file cannot be looked at.
        """
        self._fingerprint = _fingerprint_of(self._job, self._device)
        progress = self._kept()
        if progress is None:
            progress, self._filed = ChainProgress(read_canvas(self._job.picture)), (0, 0)
        self._progress = progress
        return progress

    def _kept(self) -> ChainProgress | None:
        job = self._job
        if not job.goes_on or job.paused_file is None:
            return None
        try:
            found = read_kept(job.paused_file, KeptChain, MOST_BYTES)
            if (found.fingerprint, found.at.steps) != (self._fingerprint, job.kept_steps):
                raise NotKept("its file is that of another chain, or of other models")
        except NotKept as why:
            _log.warning("the chain of a paused session begins anew: %s", why)
            return None
        return found.at.progress(self._device)

    def keep(self) -> ChainKept:
        """Keep what it has come to. What was kept before is there still where that fails; where
        the tiles of a step are too many, the steps before it are kept alone."""
        progress, path = self._progress, self._job.paused_file
        if progress is None or path is None:
            return ChainKept(*self._filed)
        tiles = progress.upscaling.tiles
        for now in dict.fromkeys(((progress.steps, tiles), (progress.steps, 0))):
            if now <= self._filed:
                break
            kept = KeptProgress.of(progress, tiles=now[1] > 0)
            try:
                write_kept(path, KeptChain(self._fingerprint, kept), MOST_BYTES)
            except NotKept as why:
                _log.warning("work of a chain that pauses is lost: %s", why)
            else:
                self._filed = now
                break
        lost = tiles > 0 and self._filed != (progress.steps, tiles)
        return ChainKept(*self._filed, lost)


def _fingerprint_of(job: ChainJob, device: torch.device) -> str:
    """What the pixels of a job depend on: where it differs, nothing is taken up."""
    asked = structs.replace(
        job,
        paused_file=None,
        kept_steps=0,
        kept_tiles=0,
        mark_key=None,
        metadata=None,
        previews=PreviewSettings(),
    )
    depends_on = (
        asked,
        states_of(job.steps),
        (device.type, str(torch.__version__), np.__version__, PIL.__version__),
    )
    return hashlib.sha256(encode(depends_on)).hexdigest()


def states_of(steps: Steps) -> list[Fingerprint | None]:
    """How the files of a chain's models are now; None of one that is gone."""
    files = (ConfinedFiles(each.place) for each in models_of(steps))
    return [each.states(("",)) if each.exists() else None for each in files]
