"""Whether IP-Adapters fit a checkpoint and an image encoder, by their files' headers: before
anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.lora_fit import pair_key
from domains.model.backends.bounds import Config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.families.image_prompt import PLAIN
from domains.model.backends.plans import plan_lone, plan_model
from domains.model.backends.remembered import Remembered
from domains.model.types import Model

_ANSWERS = 1_024
_KEY = re.compile(r"(down|up|mid)_block.*\.attn2\.to_k\.weight")
_NUMBER = re.compile(r"\d+")
# As diffusers' `attn_processors` go through a UNet.
_ORDER = ("down", "up", "mid")


class ImagePromptFits:
    """Reads headers, and remembers what it found while the files are as they were. Any thread
    may call it."""

    def __init__(self) -> None:
        self._fits: Remembered[bool] = Remembered(_ANSWERS)

    def check(self, adapter: Model, model: Model) -> None:
        """Refuse an adapter whose layers are not those of a checkpoint's UNet; blocks while
        headers are read.

        Raises:
            FailedPrecondition: MODEL_INCOMPATIBLE, naming both, or as `plan_lone`.
            DomainError: A file cannot be read.
        """
        if not self._answer(adapter, model, lambda: _layers(adapter) == _wanted(model)):
            raise FailedPrecondition(
                f"IP-Adapter {adapter.model_id} was made for a UNet with other layers than "
                f"{model.model_id} has; choose an adapter that was made for this model.",
                reason=Reason.MODEL_INCOMPATIBLE,
                metadata={"model_id": adapter.model_id},
            )

    def reads(self, adapter: Model, encoder: Model) -> bool:
        """Whether an encoder gives embeddings of the width that an adapter takes; blocks.

        Raises:
            FailedPrecondition: As `plan_lone`.
            DomainError: A file cannot be read.
        """

        def reads() -> bool:
            its, given = _config(adapter), _config(encoder)
            width = "projection_dim" if its["kind"] == PLAIN else "hidden_size"
            return bool(its["embedding_width"] == given[width])

        return self._answer(adapter, encoder, reads)

    def _answer(self, one: Model, other: Model, find: Callable[[], bool]) -> bool:
        key = pair_key(one, other)
        found = self._fits.get(key)
        if found is None:
            found = find()
            self._fits.keep(key, found)
        return found


def _config(model: Model) -> Config:
    assert model.type is not None, "it was recognised"
    return plan_lone(ConfinedFiles(model.place), model.type).config


def _layers(adapter: Model) -> list[tuple[int, int]]:
    """Widths of what makes its keys: inner one, and that of a token."""
    config = _config(adapter)
    return [(width, config["cross_attention_dim"]) for width in config["layer_widths"]]


def _wanted(model: Model) -> list[tuple[int, ...]]:
    """The same of a checkpoint's cross-attentions."""
    unet = next(
        each for each in plan_model(ConfinedFiles(model.place)).networks if each.name == "unet"
    )
    keys = {name: match for name in unet.tensors if (match := _KEY.fullmatch(name))}

    def place(name: str) -> tuple[int, list[int]]:
        return _ORDER.index(keys[name][1]), [int(one) for one in _NUMBER.findall(name)]

    return [unet.tensors[name].shape for name in sorted(keys, key=place)]
