"""A UNet's attention to pictures that are read as prompts, beside that to texts.

"IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models"
(arXiv:2308.06721); the operations and their order are those of diffusers'
`IPAdapterAttnProcessor2_0`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional

from domains.inference.backends.attention import (
    Attend,
    attend_fused,
    attend_in_slices,
    attention_of,
    in_heads,
    out_of_heads,
)
from domains.inference.backends.compilation import without_compiled_code
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.network_state import PlacedProcessor, Places, PlacesInOrder
from domains.inference.backends.second_try import with_room
from domains.inference.backends.walk import data_type_of
from domains.model.backends.image_prompt_adapter import ImagePromptAdapter

Masks: TypeAlias = dict[int, torch.Tensor]
"""Where pictures work, by the number of places that a layer looks at: `[1, places, 1]`."""


class ImageTokens(NamedTuple):
    """What the pictures of one prompt have become, in the UNet's type.

    Attributes:
        states: `[batch, pictures, tokens, width]`, the negative half first.
        scale: How strongly they work; at 0 they do not.
        masks: Where they work; None: everywhere.
    """

    states: torch.Tensor
    scale: float
    masks: Masks | None = None


TextAndImages: TypeAlias = tuple[torch.Tensor, tuple[ImageTokens, ...]]
"""What such a UNet gets as `encoder_hidden_states`: the texts' `[batch, tokens, width]`, and
the tokens of every image prompt."""

_Pair = tuple[torch.Tensor, torch.Tensor]


class ImageAttention(PlacedProcessor):
    """The attention processor of one layer, for texts alone too.

    Args:
        pairs: What makes keys and values of an image prompt's tokens, for each prompt.
        attend: The kernel.
        places: Where the pair of each prompt lies; None: nobody keeps them there.
    """

    def __init__(
        self, pairs: tuple[_Pair, ...], attend: Attend, places: PlacesInOrder | None
    ) -> None:
        self._pairs = pairs
        self._attend = attend
        self.places = places

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: TextAndImages | torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `attention_of`."""
        assert attention_mask is None, "UNets attend without a mask"
        if not isinstance(encoder_hidden_states, tuple):
            return attention_of(attention, hidden_states, encoder_hidden_states, self._attend)
        text, images = encoder_hidden_states
        added = partial(self._with_images, images)
        return attention_of(attention, hidden_states, text, self._attend, added)

    def _with_images(
        self, images: Sequence[ImageTokens], query: torch.Tensor, result: torch.Tensor
    ) -> torch.Tensor:
        for tokens, (to_key, to_value) in zip(images, self._pairs, strict=True):
            if tokens.scale == 0:
                continue
            key = in_heads(functional.linear(tokens.states, to_key), query.shape[1])
            value = in_heads(functional.linear(tokens.states, to_value), query.shape[1])
            found = out_of_heads(self._attend(query, key, value), query.dtype)
            if tokens.masks is not None:
                found = found * tokens.masks[found.shape[1]]
            result = result + tokens.scale * found
        return result


@contextmanager
def attending_to_images(
    model: LoadedModel, adapters: Sequence[ImagePromptAdapter]
) -> Iterator[None]:
    """Have a model's UNet attend to image prompts inside, one for each of `adapters`; it runs
    without compiled code as long.

    Where the UNet computes in a wider type than they do, so do copies of what they hold.
    """
    if not adapters:
        yield
        return
    unet: Any = model.networks["unet"]
    before = dict(unet.attn_processors)
    attend = attend_fused if model.plain_attention is None else attend_in_slices
    wanted = data_type_of(unet)
    assert wanted is not None, "a UNet has parameters"
    pairs = with_room(
        lambda: [_pairs(adapter, wanted) for adapter in adapters], model.make_room
    )
    same = all(data_type_of(adapter) is wanted for adapter in adapters)
    places = tuple(map(_places, adapters)) if same else None
    layers = iter(zip(*pairs, strict=True))
    now = {
        name: ImageAttention(next(layers), attend, places) if crosses(name) else processor
        for name, processor in before.items()
    }
    with without_compiled_code(unet):
        unet.set_attn_processor(now)
        try:
            yield
        finally:
            unet.set_attn_processor(before)


def crosses(name: str) -> bool:
    """Whether a processor is that of an attention to texts, by its name in the UNet."""
    return not name.endswith("attn1.processor")


def _pairs(adapter: ImagePromptAdapter, wanted: torch.dtype) -> list[_Pair]:
    """What makes keys and values, layer by layer in the order of a UNet's processors."""
    layers: Iterable[tuple[Any, Any]] = zip(adapter.to_keys, adapter.to_values, strict=True)
    return [(key.weight.to(wanted), value.weight.to(wanted)) for key, value in layers]


# Recorded steps find an adapter that stays where it is. They do not hold on to it: whoever lets
# it go has its memory back, and as it comes back it is another one.
_PLACES: WeakKeyDictionary[ImagePromptAdapter, Places] = WeakKeyDictionary()


def _places(adapter: ImagePromptAdapter) -> Places:
    if adapter not in _PLACES:
        _PLACES[adapter] = Places(())
    return _PLACES[adapter]
