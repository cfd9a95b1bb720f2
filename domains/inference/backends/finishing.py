"""From the finished latents of pictures to their files, beside the steps of the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType

import torch

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.finishing import Finished
from domains.chain.backends.finishing import Finishing as ChainFinishing
from domains.chain.backends.kept_chain import ChainProgress
from domains.inference.backends.beside import Beside, Lane
from domains.inference.backends.clock import Clock
from domains.inference.backends.device import Numerics
from domains.inference.backends.file_making import FileMaking
from domains.inference.backends.image_output import ImageOutput
from domains.inference.backends.images import Pixels
from domains.inference.backends.room import fits_beside, picture_bytes
from domains.inference.backends.second_try import with_room
from domains.inference.backends.through_vae import ThroughVae
from domains.inference.backends.vae_part import VaeBeside
from domains.inference.backends.ways import Ways
from domains.inference.jobs import GenerationJob
from domains.inference.types import GenerationSettings, asked_together, most_in_a_union
from domains.model.backends.planned import shape_of
from domains.model.core.room import step_bytes
from domains.session.jobs import JobContext, WorkPaused
from domains.session.types import ImageDecoded, Phase, PhaseStarted
from domains.values import Degradation

# With guidance; a little too much is asked for without.
_ROWS = 2


class Finishing:
    """Makes files of the pictures of a generation, in their order.

    A file is made beside the next picture's steps. So is the decoding where the device has a
    lane for it, another picture follows, and memory suffices for both; the bits are the same.
    What is decoded so is out before the next picture's decoding begins.

    A context manager: at its end all is out, unless the generation was stopped for good.

    Args:
        job: Says what marks its pictures, how large they are and what judges each before its
            file is made.
        settings: Its own, in the precision that they are drawn in.
        context: Hears of each picture, in whichever thread.
        clock: Counts the seconds.
        ways: Notes what computed each.
        through_vae: Decodes them.
        note: Hears of what was done otherwise than planned, in whichever thread.
        lane: Where decodings run beside steps; None: nowhere. With a chain nothing does: its
            networks need the device as well.
        chain: What finishes each; None for nothing.
        progress: How far that is, of the picture that was drawn so.
    """

    def __init__(
        self,
        job: GenerationJob,
        settings: GenerationSettings,
        context: JobContext,
        clock: Clock,
        ways: Ways,
        through_vae: ThroughVae,
        note: Callable[[Iterable[Degradation]], None],
        lane: Lane | None,
        chain: ChainFinishing | None = None,
        progress: Callable[[Canvas], ChainProgress] = ChainProgress,
    ) -> None:
        self._job, self._chain, self._progress = job, chain, progress
        self._settings, self._context, self._clock = settings, context, clock
        self._ways, self._through_vae = ways, through_vae
        self._files = FileMaking(context, note, clock)
        self._beside: Beside[Pixels] | None = (
            None if lane is None or chain is not None else Beside(lane)
        )
        self._at_work = ExitStack()

    def __enter__(self) -> Finishing:
        """Begin."""
        self._at_work.enter_context(self._files)
        if self._beside is not None:
            self._at_work.enter_context(self._beside)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Have everything out.

        Raises:
            Exception: As `finish`.
        """
        self._at_work.__exit__(kind, error, trace)

    def finish(
        self,
        index: int,
        latents: torch.Tensor,
        finished: Callable[[Pixels], Pixels],
        *,
        more: bool,
    ) -> None:
        """Make a file of a picture.

        Args:
            index: Its number.
            latents: Finite float32 `[1, channels, height, width]`.
            finished: Copies what is kept of a given picture into what was drawn.
            more: Whether another picture's steps follow.

        Raises:
            DomainError: As `ThroughVae.pixels`, of this picture or the one before; what the
                context's `check_stop` raises.
            Exception: As torch raises it.
        """
        if self._beside is not None:
            self._beside.wait()
        self._begin(Phase.DECODING, index)
        denoised_in = self._ways.denoises_in
        hand_on = partial(self._hand_on, index, denoised_in, finished)
        if more and self._beside is not None and self._has_room():
            through = self._through_vae
            beside = replace(
                through, vae=VaeBeside.of(through.vae), check_stop=self._beside.check
            )
            here = replace(through, check_stop=self._check_stop_for_good)
            self._beside.start(
                partial(self._pixels_beside, beside, latents),
                partial(self._pixels, here, latents),
                hand_on,
            )
            return
        pixels = self._pixels(self._through_vae, latents)
        hand_on(pixels, partial(self._begin, Phase.ENCODING_IMAGE, index))

    @property
    def at_work(self) -> bool:
        """Whether a picture is being finished in another thread."""
        return self._files.at_work or (self._beside is not None and self._beside.at_work)

    def _pixels(self, through: ThroughVae, latents: torch.Tensor) -> Pixels:
        with self._clock.time("decode"), self._ways.decoding():
            return through.pixels(latents)

    def _pixels_beside(self, through: ThroughVae, latents: torch.Tensor) -> Pixels:
        pixels = self._pixels(through, latents)
        self._ways.decoded_beside += 1
        return pixels

    def _hand_on(
        self,
        index: int,
        denoised_in: Numerics,
        finished: Callable[[Pixels], Pixels],
        pixels: Pixels,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """Have a file made of a picture; `begin` tells that, where nothing else is at work."""
        canvas = Canvas(finished(pixels))
        picture = Finished(canvas)
        self._context.emit(ImageDecoded(index))
        if self._chain is not None:
            # It goes on behind the steps that are done.
            chain = partial(self._chain.finish, index, self._progress(canvas))
            with self._clock.time("postprocess"):
                picture = with_room(chain, self._ways.model.make_room)
        if begin is not None and picture.canvas is not None:
            begin()
        job, types = self._job, self._ways.picture_types(denoised_in)
        output = ImageOutput(self._settings, job.finished_size, types, job.mark_key, job.policy)
        seed = self._settings.seeds[index]
        self._files.start(partial(output.encode, index, seed, picture))

    def _begin(self, phase: Phase, index: int) -> None:
        self._context.check_stop()
        self._context.emit(PhaseStarted(phase, index))

    def _check_stop_for_good(self) -> None:
        """A pause waits for the picture: the next one is what is kept."""
        with suppress(WorkPaused):
            self._context.check_stop()

    def _has_room(self) -> bool:
        """Whether a picture is decoded and the next one denoised in what memory is free."""
        vae, model = self._through_vae.vae, self._ways.model
        width, height = self._settings.result_size
        nets = self._settings.control_nets
        widths, attends, *_ = shape_of(model.plan_config("unet"))
        scale = vae.pixels_per_latent
        step = step_bytes(
            widths[0],
            (width // scale) * (height // scale),
            attends_at_full_size=attends,
            rows=_ROWS,
            number=self._ways.denoises_in.data_type.itemsize,
            controlled=bool(nets),
            union_pictures=most_in_a_union(nets),
            several=len(asked_together(nets)) > 1,
        )
        decoding = picture_bytes(vae.config, width, height, vae.numerics.data_type)
        return fits_beside(step + decoding, vae.device)
