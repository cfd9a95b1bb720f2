"""One picture's way through a VAE: whole, or in tiles where that is asked for or needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from domains.device.backends import faults
from domains.inference.backends.second_try import with_room
from domains.inference.backends.vae_part import Vae
from domains.values import Degradation, DegradationKind, ModelPart, Toggle

Result = TypeVar("Result")


@dataclass(frozen=True)
class Tiling:
    """Whether a picture may go through the VAE in tiles.

    `may` allows it where memory does not suffice otherwise, `asked` is what the request says.
    """

    may: bool = False
    asked: Toggle = Toggle.SERVER


@dataclass
class VaeRun(Generic[Result]):
    """Runs a VAE on one picture; once in tiles, it stays so.

    `vae` stays in float32 after an overflow. `verb` is what is done, for people
    ("Decoded"). `large` is whether it takes more than one tile. `whole` and `in_tiles` do it
    in the numbers that the VAE has at the moment, `finite` looks at what came out.
    """

    vae: Vae
    verb: str
    large: bool
    tiling: Tiling
    whole: Callable[[], Result]
    in_tiles: Callable[[], Result]
    finite: Callable[[Result], bool]
    degradations: list[Degradation] = field(default_factory=list)
    _tiled: bool = False

    def run(self) -> Result:
        """Do it, once more in float32 if a lower type overflowed; what comes out may still
        not be finite."""
        if self.large and self.tiling.asked is Toggle.ON:
            self._tile(f"{self.verb} in tiles, as the request asks.")
        elif self.large and self.tiling.asked is Toggle.SERVER and self.vae.in_tiles:
            self._tile(f"{self.verb} in tiles, as the device's profile says.")
        before = str(self.vae.numerics.data_type).removeprefix("torch.")
        result = self._once()
        if not self.finite(result) and self.vae.widen():
            detail = f"{self.verb} in float32, as {before} overflowed."
            self.degradations.append(
                Degradation(DegradationKind.DATA_TYPE, detail, ModelPart.VAE)
            )
            result = self._once()
        return result

    def _once(self) -> Result:
        if self._tiled:
            return with_room(self.in_tiles, self.vae.make_room)
        may_tile = self.tiling.may and self.large and self.tiling.asked is not Toggle.OFF
        try:
            return with_room(self.whole, self.vae.make_room)
        except Exception as error:
            if not may_tile or not faults.is_shortage(error):
                raise
            faults.drop_frames(error)
        self._tile(f"{self.verb} in tiles, as memory did not suffice otherwise.")
        self.vae.make_room()
        return self.in_tiles()

    def _tile(self, why: str) -> None:
        self._tiled = True
        self.degradations.append(Degradation(DegradationKind.VAE_TILED, why))
