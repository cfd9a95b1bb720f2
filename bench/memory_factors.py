"""How much of their largest tensors networks of full shape keep alive at once, counted without
a device: the factors that estimates of memory stand on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from domains.inference.core.memory_needs import ENCODE, FULL
from domains.model.core.room import (
    CONTROLLED_ATTENDING,
    CONTROLLED_PLAIN,
    STEP_ATTENDING,
    STEP_PLAIN,
    union_factor,
)

STATED: Mapping[str, float] = {
    "step, attending": STEP_ATTENDING,
    "step, plain": STEP_PLAIN,
    "step, attending, with ControlNets": CONTROLLED_ATTENDING,
    "step, attending, a second ControlNet": CONTROLLED_ATTENDING,
    "step, plain, with ControlNets": CONTROLLED_PLAIN,
    "step, plain, a second ControlNet": CONTROLLED_PLAIN,
    "step, plain, a union of 2 pictures": union_factor(2, several=False),
    "step, plain, a union of 6 pictures": union_factor(6, several=False),
    "step, plain, a union of 6 pictures after another": union_factor(6, several=True),
    "decode, without convolutions' own": 3,
    "encode": ENCODE,
}
"""The factors that the estimates stand on. Of a step with ControlNets it is the greater of the
UNet's call and of theirs."""


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, parameters apart."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._own = {_storage(each).cdata for each in network.parameters()}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and _storage(each).cdata not in self._own:
                kept = _storage(each)
                self._alive[kept.cdata] = (kept, each.untyped_storage().nbytes())
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return result


def _storage(tensor: torch.Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _without_matrix(query: Any, key: Any, value: Any, *_: Any, **_named: Any) -> Any:
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def counted() -> dict[str, float]:
    """The factors of `memory_needs`, counted over networks of full shape that hold nothing."""
    from diffusers import AutoencoderKL

    from tests.domains.model.corpus.configurations import SD1, SDXL, VAE

    attention = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = _without_matrix
    found = {}
    try:
        with torch.device("meta"), torch.no_grad():
            for name, config in (("step, attending", SD1), ("step, plain", SDXL)):
                found |= _of_steps(name, config)
            found |= _of_unions("step, plain", SDXL)
            vae = AutoencoderKL(**known(AutoencoderKL, VAE))
            first, second, *_ = vae.config["block_out_channels"]
            with _Alive(vae) as alive:
                vae.decode(torch.empty(1, 4, 64, 64))
            # What convolutions lay out for themselves no dispatch shows.
            found["decode, without convolutions' own"] = alive.most / (
                second * 512 * 512 * FULL
            )
            with _Alive(vae) as alive:
                vae.encode(torch.empty(1, 3, 512, 512))
            found["encode"] = alive.most / (first * 512 * 512 * FULL)
    finally:
        torch.nn.functional.scaled_dot_product_attention = attention
    return found


def _of_steps(name: str, config: Mapping[str, Any]) -> dict[str, float]:
    """The factors of a step: alone, with what ControlNets give it, and while a second one of
    them is called."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel(**known(UNet2DConditionModel, config))
    net = ControlNetModel(**known(ControlNetModel, config))
    sample = torch.empty(2, 4, 64, 64)
    usual = {
        "timestep": torch.tensor(1.0),
        "encoder_hidden_states": torch.empty(2, 77, unet.config["cross_attention_dim"]),
        "added_cond_kwargs": {
            "text_embeds": torch.empty(2, 1280),
            "time_ids": torch.empty(2, 6),
        },
    }
    picture = torch.empty(2, 3, 512, 512)
    largest = unet.config["block_out_channels"][0] * sample[:, 0].numel() * FULL

    def control() -> tuple[list[torch.Tensor], torch.Tensor]:
        blocks, middle = net(sample, controlnet_cond=picture, return_dict=False, **usual)
        return blocks, middle

    def step(blocks: Any = None, middle: Any = None) -> None:
        unet(
            sample,
            down_block_additional_residuals=blocks,
            mid_block_additional_residual=middle,
            **usual,
        )

    shapes = [each.shape for each in control()[0]]
    middle_shape = control()[1].shape
    with _Alive(unet) as alone:
        step()
    with _Alive(unet) as controlled:
        step([torch.empty(shape) for shape in shapes], torch.empty(middle_shape))
    with _Alive(net) as second:
        first = control()
        blocks, _ = control()
        [one + two for one, two in zip(first[0], blocks, strict=True)]
    return {
        name: alone.most / largest,
        f"{name}, with ControlNets": controlled.most / largest,
        f"{name}, a second ControlNet": second.most / largest,
    }


def _of_unions(name: str, config: Mapping[str, Any]) -> dict[str, float]:
    """The factors of a union's call, its pictures laid out for both rows as the engine does."""
    from diffusers import ControlNetUnionModel

    union = ControlNetUnionModel(**known(ControlNetUnionModel, config))
    sample = torch.empty(2, 4, 64, 64)
    largest = config["block_out_channels"][0] * sample[:, 0].numel() * FULL

    def call(pictures: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        count = len(pictures)
        blocks, middle = union(
            sample,
            timestep=torch.tensor(1.0),
            encoder_hidden_states=torch.empty(2, 77, config["cross_attention_dim"]),
            added_cond_kwargs={
                "text_embeds": torch.empty(2, 1280),
                "time_ids": torch.empty(2, 6),
            },
            controlnet_cond=[torch.cat([each] * 2) for each in pictures],
            control_type=torch.empty(2, union.config["num_control_type"]),
            control_type_idx=list(range(count)),
            conditioning_scale=[1.0] * count,
            return_dict=False,
        )
        return blocks, middle

    found = {}
    for count in (2, 6):
        pictures = [torch.empty(1, 3, 512, 512) for _ in range(count)]
        with _Alive(union) as alive:
            call(pictures)
        found[f"{name}, a union of {count} pictures"] = alive.most / largest
    shapes = [each.shape for each in call(pictures)[0]]
    with _Alive(union) as alive:
        given = [torch.empty(shape) for shape in shapes]
        call(pictures)
        del given
    found[f"{name}, a union of {count} pictures after another"] = alive.most / largest
    return found


def known(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration a class of networks takes."""
    names = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in config.items() if name in names}
