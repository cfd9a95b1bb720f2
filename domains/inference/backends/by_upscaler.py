"""Pictures enlarged by an upscaler between the passes of a generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.enlarging import PassMade, enlarge_to
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.chain.types import UpscalerModel
from domains.device.backends.torch_gauge import in_main_memory
from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.device import data_type_of
from domains.inference.backends.enlarging import continued
from domains.inference.backends.images import Pixels
from domains.inference.backends.seamless import Edges
from domains.inference.backends.second_try import with_room
from domains.model.core.enlarging import TILE_ON_DEVICE, TILE_ON_PROCESSOR, TILE_OVERLAP
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished
from domains.values import Degradation, DegradationKind


@dataclass(frozen=True)
class ByUpscaler:
    """Enlarges with the upscaler of one request, in tiles of a size that the device decides:
    were it what memory is free, the same settings would draw other pictures.

    Attributes:
        shelf: Has the network.
        model: Which one.
        exact: Whether it computes in float32.
        context: Hears of each tile, and says when to stop.
        make_room: Called when memory ran out, before it is read or a picture is enlarged once
            more.
    """

    shelf: UpscalerShelf
    model: UpscalerModel
    exact: bool
    context: JobContext
    make_room: Callable[[], None]

    def ready(self) -> Upscaler:
        """Have the network on the device.

        Raises:
            DomainError: As `UpscalerShelf.get`.
        """
        read = partial(
            self.shelf.get,
            self.model,
            self.exact,
            loading=lambda: self.context.emit(PhaseStarted(Phase.LOADING_MODEL)),
            check_stop=self.context.check_stop,
        )
        return with_room(read, self.make_room)

    def enlarge(
        self,
        pixels: Pixels,
        height: int,
        width: int,
        edges: Edges,
        note: Callable[[Iterable[Degradation]], None],
        image_index: int | None = None,
    ) -> Pixels:
        """A picture in another size.

        Args:
            pixels: uint8 `[h, w, 3]`.
            height: In pixels, no less than its own.
            width: Likewise.
            edges: Those that continue at the opposite ones.
            note: Hears of what was done otherwise than planned.
            image_index: Whose tiles are told; None: nobody's.

        Raises:
            DomainError: As `ready`, or NON_FINITE_OUTPUT; what `check_stop` raises.
            Exception: As torch raises it, when memory ran out twice.
        """
        upscaler, asked = self.ready(), set[torch.dtype]()

        def between(done: int, tiles: int) -> None:
            if image_index is not None:
                self.context.emit(PieceFinished(image_index, Piece.TILE, done, tiles))
            self.context.check_stop()

        def tell(made: PassMade) -> None:
            asked.add(made.data_type)

        def resize(seen: Pixels, size: tuple[int, int]) -> Pixels:
            on_processor = in_main_memory(upscaler.device)
            return enlarge_to(
                upscaler,
                seen,
                size,
                TILE_ON_PROCESSOR if on_processor else TILE_ON_DEVICE,
                TILE_OVERLAP,
                between,
                tell=tell,
                may_shrink=False,
            )

        before = upscaler.data_type
        with one_at_a_time:
            work = partial(continued, pixels, height, width, edges, resize, TILE_OVERLAP)
            larger = with_room(work, self.make_room)
        if asked - {before}:
            detail = f"Enlarged in float32, as {data_type_of(before).value} overflowed."
            note([Degradation(DegradationKind.DATA_TYPE, detail)])
        return larger
