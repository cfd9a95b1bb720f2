"""How a drawing uses its denoiser: for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from domains.inference.backends.image_attention import attending_to_images
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_layers import on_denoiser
from domains.inference.backends.parts import Parts
from domains.inference.backends.seamless import seamless_convolutions
from domains.inference.backends.ways import Ways
from domains.inference.backends.widening import in_float32

Done = TypeVar("Done")


class DenoiserUse(Protocol):
    """What a drawing does with its denoiser.

    `alone` is whether nobody else's calls are to follow its own.
    """

    alone: ClassVar[bool]

    def at_work(self) -> ExitStack:
        """With it the denoisers work as the settings say."""
        ...

    def denoiser(self, ways: Ways, shape: tuple[int, ...]) -> Any:
        """The UNet, to be called with latents of that shape, as `ways` notes."""
        ...

    def in_float32(self) -> AbstractContextManager[bool]:
        """It computes in float32 inside, while it is at work; False where there is no memory
        for that."""
        ...

    def do(self, act: Callable[[], Done]) -> Done:
        """Do something long that is not the denoiser's, in the thread that makes its calls."""
        ...


@dataclass
class SoleUse:
    """Nobody else uses it meanwhile."""

    alone: ClassVar[bool] = True
    model: LoadedModel
    parts: Parts
    _added: ExitStack = field(default_factory=ExitStack)

    def at_work(self) -> ExitStack:
        """See `DenoiserUse`."""
        controls = [net.network.module for net in self.parts.control_nets]
        with ExitStack() as at_work:
            unets = [self.model.networks["unet"], *controls]
            at_work.enter_context(seamless_convolutions(unets, self.parts.vae.edges))
            at_work.enter_context(self._added)
            self._add()
            return at_work.pop_all()

    def denoiser(self, ways: Ways, shape: tuple[int, ...]) -> Any:
        """See `DenoiserUse`."""
        return ways.denoiser(shape)

    @contextmanager
    def in_float32(self) -> Iterator[bool]:
        """See `DenoiserUse`."""
        self._added.close()  # it is in the lower type
        try:
            with in_float32(self.model) as roomy:
                self._add()
                try:
                    yield roomy
                finally:
                    self._added.close()
        finally:
            self._add()

    def _add(self) -> None:
        """Have LoRAs and image prompts work on the UNet, in what it computes in now."""
        self._added.enter_context(on_denoiser(self.model, self.parts.loras))
        adapters = [each.module for each in self.parts.image_prompts]
        self._added.enter_context(attending_to_images(self.model, adapters))

    def do(self, act: Callable[[], Done]) -> Done:
        """See `DenoiserUse`."""
        return act()
