"""The worker's job of a chain on a picture that came with a request."""

from __future__ import annotations

import time
from dataclasses import replace

from domains.chain.backends.finishing import Finishing
from domains.chain.backends.kept_chain import ChainKeeper
from domains.chain.backends.room import check_host
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.jobs import ChainJob, ChainReport, PausedChain
from domains.chain.jobs.room import file_bytes
from domains.picture.backends.encoding import encode_image
from domains.provenance.backends.mark import marked
from domains.session.jobs import EncodedImage, JobContext, WorkPaused
from domains.session.types import Phase, PhaseStarted


def process(
    job: ChainJob, shelf: UpscalerShelf, context: JobContext
) -> ChainReport | PausedChain:
    """Do the chain, and hand out the file; none where a safety step withholds the picture.

    Asked to pause, it keeps what finished steps have come to, and the next job goes on there.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, where the prepared picture is gone.
        InvalidProvenance: The mark would not be found again in such a picture.
        ResourceExhausted: HOST_OUT_OF_MEMORY, before a step or the file that does not fit.
        DomainError: As `Finishing.finish`.
        Exception: As torch raises it.
    """
    begun = time.perf_counter()
    finishing = Finishing(shelf, job.steps, job.exact, context, job.previews)
    keeper = ChainKeeper(job, shelf.device)
    try:
        return _processed(job, finishing, keeper, begun)
    except WorkPaused:
        taken = max(0.0, time.perf_counter() - begun - finishing.load_seconds)
        return PausedChain(finishing.load_seconds, taken, keeper.keep())


def _processed(
    job: ChainJob, finishing: Finishing, keeper: ChainKeeper, begun: float
) -> ChainReport:
    """What is left of it; `begun` is when it began.

    Raises:
        WorkPaused: It is to pause, and no file is out.
    """
    context = finishing.context
    data = b""  # of a picture that is withheld
    done = finishing.finish(0, keeper.begin())
    finished = time.perf_counter()
    canvas = done.canvas
    if canvas is not None:
        context.check_stop()
        context.emit(PhaseStarted(Phase.ENCODING_IMAGE, 0))
        if job.mark_key is not None:
            pixels = marked(canvas.pixels, job.mark_key, "output.provenance.watermark")
            canvas = replace(canvas, pixels=pixels)
        check_host(file_bytes(canvas.size, job.output.format))
        data = encode_image(canvas.whole(), job.output, metadata=job.metadata)
    size, format = (job.width, job.height), job.output.format
    watermark = bool(data) and job.mark_key is not None
    context.emit(EncodedImage(0, None, *size, format, data, watermark, done.verdict))
    return ChainReport(
        load=finishing.load_seconds,
        postprocess=max(0.0, finished - begun - finishing.load_seconds),
        encode_image=time.perf_counter() - finished,
    )
