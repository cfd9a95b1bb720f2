"""A model on its device, ready to draw."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.compilation import runs_code, use_code
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.device import Numerics, data_type_of, release_memory
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.lora_places import LoraPlaces
from domains.inference.backends.precision import apply
from domains.inference.backends.step_graphs import StepGraphs, recorder_for
from domains.inference.backends.tokenizing import Tokenizer
from domains.inference.backends.wanted import WantedModel
from domains.inference.types import AttentionKernel, PrecisionMode
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.sizes import pixels_per_latent
from domains.values import NETWORK_PARTS, ModelPart, PartDataType

_KEPT_EMBEDDINGS = 64


@dataclass(frozen=True)
class TextEmbedding:
    """One chunk of text as one encoder sees it, on the device.

    `hidden_states` is `[1, window, width]`, `pooled` is `[1, width]` or None where the
    encoder gives no such vector.
    """

    hidden_states: torch.Tensor
    pooled: torch.Tensor | None


def _nothing() -> None:
    """There is nobody else to make room."""


class EmbeddingCache:
    """The most recent text embeddings of one loaded model."""

    def __init__(self, capacity: int = _KEPT_EMBEDDINGS) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[Any, ...], TextEmbedding] = OrderedDict()
        self._under: tuple[Any, ...] = ()

    @contextmanager
    def under(self, key: tuple[Any, ...]) -> Iterator[None]:
        """Inside, what is kept belongs to `key`: what else the encoders' outputs depend on."""
        self._under = key
        try:
            yield
        finally:
            self._under = ()

    def get(self, key: tuple[Any, ...]) -> TextEmbedding | None:
        """The embedding kept under `key`, which becomes the most recent."""
        key = (self._under, key)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()

    def put(self, key: tuple[Any, ...], embedding: TextEmbedding) -> None:
        """Keep `embedding`; the oldest goes when there are too many."""
        self._kept[(self._under, key)] = embedding
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


@dataclass(kw_only=True)
class LoadedModel(Loaded):
    """Networks and tokenizers of one checkpoint or refiner on one device; one may lack
    those that it borrows (`plan.borrowed`): a refiner of a checkpoint, a checkpoint its VAE.

    Requests never change it, with two exceptions that hold for all later ones: the first
    run in which speed comes first settles `unet_numerics` and `vae_numerics`, and a VAE
    that overflows is replaced by its float32 copy. A profile changes `vae_tiling`,
    `plain_attention` (what slicing has replaced) and `code` (what has compiled code).

    `attention_kernels` are those that were seen at work, by what torch's choice depends on.
    `others_make_room` lets go of what else its device holds. `graphs` are of its UNet, and so
    are the `lora_places`, for where it is recorded.
    """

    precision: PrecisionMode
    plan: ModelPlan
    tokenizers: dict[str, Tokenizer]
    unet_numerics: Numerics
    vae_numerics: Numerics
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)
    measured: bool = False
    unet_measured: bool = False
    vae_tiling: bool = False
    plain_attention: dict[str, Any] | None = None
    code: CodeShelf | None = None
    attention_kernels: dict[Hashable, tuple[AttentionKernel, ...]] = field(default_factory=dict)
    others_make_room: Callable[[], None] = _nothing
    lora_places: LoraPlaces = field(default_factory=LoraPlaces)
    graphs: StepGraphs = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing recorded."""
        self.graphs = StepGraphs(recorder_for(self.device), self.device)

    def unet_call(self) -> Callable[..., Any]:
        """The UNet, to be called as itself, by its graphs, until something about it changes."""
        return self.graphs.bound(
            self.networks["unet"], (self.unet_numerics, self.plain_attention is None)
        )

    def use_code(self) -> None:
        """Have compiled code run from here on where there is some that is right and faster, if
        speed comes first; have it made where there is none. Once numbers are settled, and
        between two pictures: trying it takes a second."""
        if self.code is None or self.precision is not PrecisionMode.FASTEST:
            return
        recorder = partial(recorder_for, self.device)
        use_code(self.networks["unet"], "", self.unet_numerics, self.code, recorder)
        if "vae" in self.networks:
            # Its calls are not recorded.
            vae, numerics = self.networks["vae"], self.vae_numerics
            use_code(vae, "decoder", numerics, self.code, lambda: None)

    @property
    def runs_code(self) -> bool:
        """Whether compiled code runs for some calls of its UNet."""
        return runs_code(self.networks["unet"])

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along an edge that one latent stands for."""
        return pixels_per_latent(self.plan_config("vae"))

    def data_types(self) -> tuple[PartDataType, ...]:
        """The data types in which its parts compute."""
        vae = PartDataType(ModelPart.VAE, data_type_of(self.vae_numerics.data_type))
        return (
            PartDataType(ModelPart.DENOISER, data_type_of(self.unet_numerics.data_type)),
            *((vae,) if "vae" in self.networks else ()),
            *(
                PartDataType(part, data_type_of(next(self.networks[name].parameters()).dtype))
                for name, part in NETWORK_PARTS.items()
                if name in self.networks and part not in (ModelPart.DENOISER, ModelPart.VAE)
            ),
        )

    def serves(self, wanted: WantedModel, precision: PrecisionMode) -> bool:
        """Whether it is the one, computing as is asked for.

        One whose data types somebody chose serves whoever leaves them open.
        """
        if (self.place, self.plan.type) != (wanted.place, wanted.type):
            return False
        if wanted.data_types:
            return self.chosen == wanted.data_types
        if self.chosen:
            return wanted.precision is PrecisionMode.OPEN
        return self.precision is precision

    def wanted(self) -> WantedModel:
        """See `Loaded`."""
        return WantedModel(
            self.model_id, self.place, self.precision, self.chosen, type=self.plan.type
        )

    def make_room(self) -> None:
        """Let go of what can be had again, and of what the allocator keeps."""
        with one_at_a_time:  # what is at work beside gives its memory back first
            self.embeddings.clear()
            self.graphs.let_go()
            self.others_make_room()
            release_memory(self.device)

    def widen_vae(self) -> bool:
        """See `Loaded`."""
        if self.vae_numerics.data_type is torch.float32:
            return False
        self.vae_numerics = Numerics(torch.float32)
        apply(self.networks["vae"], self.vae_numerics)
        return True

    def plan_config(self, network: str) -> dict[str, Any]:
        """See `Loaded`."""
        return self.plan.configs[network]
