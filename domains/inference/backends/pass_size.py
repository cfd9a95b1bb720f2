"""For how many pictures a pass through the denoiser is made at once, on one device."""

from __future__ import annotations

import torch

from domains.inference.backends.room import missing_beside
from domains.inference.backends.sharing_rules import MOST_TOGETHER
from domains.model.backends.bounds import Config
from domains.model.backends.planned import shape_of
from domains.model.core.room import step_bytes

# Passes that have to go well before twice as many pictures are tried again.
_UNTIL_GROWN = 32


class PassSize:
    """As many as there is room for; after memory ran out fewer, for a while.

    Args:
        device: Whose memory it is.
        most: Never more.
    """

    def __init__(self, device: torch.device, most: int = MOST_TOGETHER) -> None:
        self._device, self.most = device, most
        self._now, self._went_well = most, 0

    @property
    def now(self) -> int:
        """As many as may be tried."""
        return self._now

    def fitting(self, config: Config, sample: torch.Tensor, rows: int) -> int:
        """As many of `now` as there is free memory for, at least one; all where the device does
        not say.

        Args:
            config: The denoiser's.
            sample: One picture's, `[..., height, width]` in the denoiser's type.
            rows: Of each picture in the batch, at most.
        """
        count = self._now
        missing = missing_beside(0, self._device)
        if missing is None:
            return count
        height, width = sample.shape[-2:]
        widths, attends, *_ = shape_of(config)
        each = step_bytes(
            widths[0],
            height * width,
            attends_at_full_size=attends,
            rows=rows,
            number=sample.element_size(),
        )
        while count > 1 and missing + each * count > 0:
            count //= 2
        return count

    def fell_short(self, count: int) -> None:
        """Memory ran out with so many, at least two."""
        self._now, self._went_well = max(1, min(self._now, count // 2)), 0

    def went_well(self, count: int) -> None:
        """A pass with so many is over."""
        if count < self._now or self._now == self.most:
            return
        self._went_well += 1
        if self._went_well >= _UNTIL_GROWN:
            self._now, self._went_well = min(self.most, 2 * self._now), 0
