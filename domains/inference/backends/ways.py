"""By which ways the pictures of a generation were really computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from domains.inference.backends.attention_kernels import Watched
from domains.inference.backends.compilation import code_answers, noted_calls
from domains.inference.backends.device import Numerics, data_type_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.parts import Parts
from domains.inference.types import AttentionKernel, Computation
from domains.values import Degradation, DegradationKind, ModelPart, PartDataType

_DENOISER, _VAE = ModelPart.DENOISER, ModelPart.VAE


@dataclass(frozen=True)
class Made:
    """A call of the UNet that was made for as many pictures at once, what computed its
    attention, and what it gave to one of them."""

    result: Any
    pictures: int
    kernels: tuple[AttentionKernel, ...]


@dataclass
class Ways:
    """Notes what each picture is computed by, as it is.

    `decoded_beside` counts those that were decoded beside steps, in one thread.
    """

    model: LoadedModel
    parts: Parts
    decoded_beside: int = 0
    _replays: int = field(init=False)
    _types: dict[PartDataType, None] = field(default_factory=dict)
    _channels_last: dict[ModelPart, None] = field(default_factory=dict)
    _compiled: dict[ModelPart, None] = field(default_factory=dict)
    _kernels: dict[AttentionKernel, None] = field(default_factory=dict)
    _denoises_in: Numerics | None = None
    _most_together: int = 0

    def __post_init__(self) -> None:
        self._replays = self.model.graphs.replays
        # A model that gives way to its refiner has lost them by the time a picture is out.
        self._others = [
            each for each in self.model.data_types() if each.part not in (_DENOISER, _VAE)
        ]

    def denoiser(self, shape: tuple[int, ...]) -> Any:
        """The UNet, to be called with latents of that shape; as it is now."""
        model, unet = self.model, self.model.unet_call()
        self._denoises_in = model.unet_numerics
        network = model.networks["unet"]
        key = (model.unet_numerics, model.plain_attention is None, shape)

        def tell(seen: Iterable[AttentionKernel]) -> None:
            model.attention_kernels[key] = tuple(seen)

        watched = Watched(unet, tell)

        def call(*inputs: Any, **named: Any) -> Any:
            if code_answers(network, inputs, named):
                self._compiled.setdefault(_DENOISER)
                return unet(*inputs, **named)
            known = key in model.attention_kernels
            result = (unet if known else watched)(*inputs, **named)
            self._kernels |= dict.fromkeys(model.attention_kernels[key])
            return result

        return call

    def shared(self, call: Callable[..., Made]) -> Any:
        """The UNet by calls that are made with those for other pictures.

        Args:
            call: Has one made, its arguments those of the UNet.
        """
        self._denoises_in = self.model.unet_numerics

        def unet(*inputs: Any, **named: Any) -> Any:
            made = call(*inputs, **named)
            self._kernels |= dict.fromkeys(made.kernels)
            self._most_together = max(self._most_together, made.pictures)
            return made.result

        return unet

    @property
    def denoises_in(self) -> Numerics:
        """What the denoiser of the picture at work computes in."""
        assert self._denoises_in is not None, "a picture is denoised"
        return self._denoises_in

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Inside, a picture is decoded."""
        decoder: Any = self.parts.vae.network.decoder
        with noted_calls(decoder) as by_code:
            yield
        # Where its type overflowed or memory was short, what came first is in no picture.
        if by_code and by_code[-1]:
            self._compiled.setdefault(_VAE)

    def picture_types(self, denoised_in: Numerics) -> tuple[PartDataType, ...]:
        """What the parts computed in for a picture that has gone through them; noted.

        Args:
            denoised_in: What `denoises_in` said of that picture.
        """
        used = {_DENOISER: denoised_in, _VAE: self.parts.vae.numerics}
        found = [PartDataType(part, data_type_of(one.data_type)) for part, one in used.items()]
        found += self._others
        self._types |= dict.fromkeys(found)
        for part, numerics in used.items():
            if numerics.channels_last:
                self._channels_last.setdefault(part)
        return tuple(found)

    def data_types(self) -> tuple[PartDataType, ...]:
        """What the parts computed in, part by part."""
        order = list(ModelPart)
        return tuple(sorted(self._types, key=lambda each: order.index(each.part)))

    def computed(self, degradations: Iterable[Degradation]) -> Computation:
        """The rest of it; `degradations` are those of the whole generation."""
        kinds = {each.kind for each in degradations}
        return Computation(
            channels_last=tuple(self._channels_last),
            compiled=tuple(self._compiled),
            recorded=(_DENOISER,) if self.model.graphs.replays > self._replays else (),
            attention_kernels=tuple(self._kernels),
            attention_sliced=DegradationKind.ATTENTION_SLICED in kinds,
            vae_tiled=DegradationKind.VAE_TILED in kinds,
            most_together=self._most_together,
            decoded_beside=self.decoded_beside,
        )
