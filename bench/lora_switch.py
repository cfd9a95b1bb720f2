"""What it costs to draw with other LoRAs than before, beside diffusers, as Markdown.

    python -m bench.lora_switch [--device cpu] [--out FILE.md]

Needs the demo models alone. Both are given the same two LoRAs in turn, on the same networks of
the same type; a switch is all that comes before the first step and after the last one. Of
diffusers' two ways one chooses with `set_adapters` among adapters that stay loaded, the other
loads and unloads each. The step is the UNet's call with a LoRA in it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from bench.machine import describe_machine
from bench.measure import median
from bench.model_files import DEMO
from domains.inference.backends.clock import Clock
from domains.inference.backends.device import synchronize
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loader import Loader
from domains.inference.backends.lora_layers import (
    ActiveLora,
    check_loras,
    on_denoiser,
    on_text_encoders,
)
from domains.inference.backends.wanted import WantedModel
from domains.inference.types import PrecisionMode
from domains.values import ModelPlace

_LORAS = ("line-art", "pixel-art")
_WEIGHT = 0.8


class _Quiet:
    """A job's context that nobody listens to."""

    def emit(self, event: object) -> None:
        """Nobody hears it."""

    def check_stop(self) -> None:
        """Nobody stops it."""


def _call(unet: Any, device: torch.device) -> Callable[[], object]:
    """One step's call of a UNet, on fixed input."""
    config = unet.config
    noise = torch.Generator().manual_seed(1)
    kind = unet.dtype
    sample = torch.randn(2, 4, 32, 32, generator=noise).to(device, kind)
    states = torch.randn(2, 77, config["cross_attention_dim"], generator=noise)
    pooled = config["projection_class_embeddings_input_dim"] - (
        6 * config["addition_time_embed_dim"]
    )
    added = {
        "text_embeds": torch.randn(2, pooled, generator=noise).to(device, kind),
        "time_ids": torch.full((2, 6), 256.0).to(device, kind),
    }
    return partial(
        unet,
        sample,
        torch.tensor(500.0),
        states.to(device, kind),
        added_cond_kwargs=added,
        return_dict=False,
    )


class _Ours:
    """The engine's own way, on a model that it has loaded."""

    def __init__(self, device: torch.device) -> None:
        self._loader = Loader(device, lambda: None)
        wanted = WantedModel("emoji", ModelPlace.of(DEMO), PrecisionMode.EXACT)
        context: Any = _Quiet()
        self.model: LoadedModel = self._loader.ready(wanted, context, Clock()).model
        self.unet: Any = self.model.networks["unet"]

    def using(self, name: str, act: Callable[[], object]) -> None:
        """Do `act` with a LoRA, and leave nothing of it."""
        place = ModelPlace.of(DEMO.parent / f"{name}.safetensors")
        loras = (ActiveLora(self._loader.loras.get(name, place), _WEIGHT, _WEIGHT),)
        check_loras(self.model, loras)
        with on_text_encoders(self.model, loras):
            pass
        with on_denoiser(self.model, loras):
            act()
        self._loader.loras.end_work()

    def forget(self) -> None:
        """Have the next one read its file."""
        self._loader.loras.let_go()


class _Theirs:
    """diffusers' pipeline, with peft."""

    def __init__(self, device: torch.device, kind: torch.dtype) -> None:
        make: Any = StableDiffusionXLPipeline.from_pretrained
        self.pipe: Any = make(DEMO, variant="fp16", torch_dtype=kind, local_files_only=True)
        self.pipe.to(device)
        self.unet = self.pipe.unet

    def load(self, name: str) -> None:
        """Read an adapter."""
        self.pipe.load_lora_weights(
            str(DEMO.parent), weight_name=f"{name}.safetensors", adapter_name=name
        )

    def kept(self, name: str, act: Callable[[], object]) -> None:
        """Choose among adapters that are loaded."""
        self.pipe.set_adapters([name], [_WEIGHT])
        act()

    def anew(self, name: str, act: Callable[[], object]) -> None:
        """Load one, and unload it again."""
        self.load(name)
        self.pipe.set_adapters([name], [_WEIGHT])
        act()
        self.pipe.unload_lora_weights()


def _times(
    device: torch.device, rounds: int, act: Callable[[str], None], before: Callable[[], None]
) -> float:
    """The median in milliseconds of doing it with each LoRA in turn."""
    found = []
    for number in range(2 * rounds + 2):
        before()
        synchronize(device)
        began = time.perf_counter()
        act(_LORAS[number % 2])
        synchronize(device)
        found.append(1_000 * (time.perf_counter() - began))
    return median(found[2:])


def _nothing() -> None:
    return None


def main(arguments: Sequence[str]) -> int:
    """Measure both in turn, and keep the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.lora_switch", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    device, rounds = torch.device(options.device), options.rounds
    with torch.no_grad():
        ours = _Ours(device)
        theirs = _Theirs(device, ours.unet.dtype)
        time_of = partial(_times, device, rounds)
        read = time_of(lambda name: ours.using(name, _nothing), ours.forget)
        kept = time_of(lambda name: ours.using(name, _nothing), _nothing)
        anew = time_of(lambda name: theirs.anew(name, _nothing), _nothing)
        our_call, their_call = _call(ours.unet, device), _call(theirs.unet, device)
        plain = time_of(lambda _: our_call(), _nothing)  # type: ignore[func-returns-value]
        stepping: list[float] = []

        def step(name: str) -> None:
            ours.using(name, lambda: stepping.append(_seconds(our_call, device)))

        time_of(step, _nothing)
        for name in _LORAS:
            theirs.load(name)
        chosen = time_of(lambda name: theirs.kept(name, _nothing), _nothing)
        theirs.pipe.set_adapters([_LORAS[0]], [_WEIGHT])
        their_step = time_of(lambda _: their_call(), _nothing)  # type: ignore[func-returns-value]
    our_step = 1_000 * median(stepping[2:])
    machine = describe_machine()
    lines = [
        f"# Switching LoRAs on {options.device}",
        "",
        "Written by `python -m bench.lora_switch`.",
        "",
        f"{machine.processor}, {machine.cores} cores; {ours.unet.dtype}; "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "",
        "| | Here, ms | diffusers, ms | diffusers / here |",
        "|---|---|---|---|",
        _row("A LoRA that is read from its file", read, anew),
        _row("One that is kept", kept, chosen),
        _row("A UNet's call with it", our_step, their_step),
        "",
        f"The same call without a LoRA takes {plain:.1f} ms. diffusers reads with "
        "`load_lora_weights`, `set_adapters` and `unload_lora_weights`, and chooses among kept "
        "ones with `set_adapters`.",
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


def _seconds(act: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    act()
    synchronize(device)
    return time.perf_counter() - began


def _row(what: str, here: float, there: float) -> str:
    return f"| {what} | {here:.1f} | {there:.1f} | {there / here:.2f} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
