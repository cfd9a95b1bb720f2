"""Pictures with LoRAs on a card: steps recorded and plain, what putting one on and off, another
weight and another LoRA take, and whether the bits are the same. Lines of JSON.

`python -m bench.accelerator_loras FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet, and LoRAs for all layers of its attention.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from bench.accelerator_pictures import Bench
from bench.model_files import random_model
from domains.inference.backends.device import synchronize
from domains.inference.backends.lora_layers import ActiveLora, on_denoiser
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import LoraWeight, Scheduler
from domains.model.types import ModelType
from domains.values import ModelPlace
from tests.fakes.jobs import changed

_MIB = 2**20
_WEIGHT = 0.8
_OTHER_WEIGHT = 0.35
_SCHEDULERS = (
    Scheduler.EULER_DISCRETE,
    Scheduler.EULER_ANCESTRAL_DISCRETE,
    Scheduler.DPM_SOLVER_MULTISTEP,
)


class LoraBench(Bench):
    """The same with a LoRA at work, if one is chosen."""

    lora: Path | None = None
    weight = _WEIGHT

    def job(self, *settings: Any) -> GenerationJob:
        """One picture."""
        job = super().job(*settings)
        if self.lora is None:
            return job
        return changed(
            job,
            loras=(LoraWeight(self.lora.stem, self.weight, 0.0),),
            companions=(Companion(self.lora.stem, ModelType.LORA, ModelPlace.of(self.lora)),),
        )

    def choose(self, lora: Path | None, weight: float = _WEIGHT) -> None:
        """Have pictures drawn with that."""
        self.lora, self.weight = lora, weight

    def first(self, lora: Path | None, weight: float = _WEIGHT) -> dict[str, Any]:
        """The first picture after another choice, and one after it."""
        self.choose(lora, weight)
        recorded = self.model.graphs.count
        found: dict[str, Any] = {}
        for name in ("first", "second"):
            seconds, step, report = self.draw()
            found |= {
                f"{name}_s": round(seconds, 3),
                f"{name}_step_ms": round(1000 * step, 2),
                f"{name}_load_s": round(report.timings.load, 4),
                f"{name}_denoise_s": round(report.timings.denoise, 4),
            }
        return found | {"new_recordings": self.model.graphs.count - recorded}

    def put_on(self, lora: Path) -> dict[str, Any]:
        """Milliseconds of putting a LoRA that is kept on the denoiser, and off again."""
        kept = self.engine._loader.loras.get(lora.stem, ModelPlace.of(lora))
        active = (ActiveLora(kept, _WEIGHT, 0.0),)
        found = []
        with torch.no_grad():
            for _ in range(6):
                synchronize(self.model.device)
                began = time.perf_counter()
                with on_denoiser(self.model, active):
                    synchronize(self.model.device)
                found.append(1000 * (time.perf_counter() - began))
        self.engine._loader.loras.end_work()
        return {"ms": round(statistics.median(found[1:]), 1), "mib": kept.size_bytes / _MIB}

    def same_loras_bits(self, lora: Path, size: int) -> dict[str, bool]:
        """Whether recorded steps with a LoRA give the latents of plain ones, and those without
        one the same afterwards as before."""
        found = {}
        for scheduler in _SCHEDULERS:
            settings = {"scheduler": scheduler, "steps": 4, "width": size, "height": size}
            self.choose(None)
            before = self.latents(**settings)
            self.choose(lora)
            recorded = [self.latents(**settings) for _ in range(2)]
            with self.plainly():
                plain = self.latents(**settings)
            self.choose(None)
            found[scheduler.name] = (
                all(torch.equal(plain, one) for one in recorded)
                and torch.equal(before, self.latents(**settings))
                and not torch.equal(before, plain)
            )
        return found

    def held(self, lora: Path) -> dict[str, Any]:
        """MiB that recordings of a size hold: without a LoRA, and with one as well."""
        self.model.graphs.let_go()
        torch.cuda.empty_cache()
        before, found = _taken(), {}
        for name, each in (("without_mib", None), ("and_with_one_mib", lora)):
            self.choose(each)
            self.draw(steps=3)
            torch.cuda.empty_cache()
            found[name] = round((_taken() - before) / _MIB, 1)
        return found


def _taken() -> int:
    """Bytes of the card that are in use, by graphs themselves as well."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def write_lora(path: Path, unet: nn.Module, rank: int, seed: int) -> Path:
    """A LoRA of random numbers for every linear layer of its attention, float16."""
    noise = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if not isinstance(module, nn.Linear) or ".attn" not in name:
            continue
        layer = f"lora_unet_{name.replace('.', '_')}"
        shapes = {
            "lora_down.weight": (rank, module.in_features),
            "lora_up.weight": (module.out_features, rank),
        }
        for part, shape in shapes.items():
            numbers = torch.randn(shape, generator=noise) * 0.05
            tensors[f"{layer}.{part}"] = numbers.half()
        tensors[f"{layer}.alpha"] = torch.tensor(float(rank), dtype=torch.float16)
    save_file(tensors, path)
    return path


def main(arguments: list[str]) -> int:
    """Measure and print a line of JSON for each thing."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_loras", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    given = parser.parse_args(arguments)
    began = time.perf_counter()

    def note(name: str, value: object) -> None:
        line = {"what": name, "at_s": round(time.perf_counter() - began, 1), "found": value}
        print(json.dumps(line), flush=True)

    bench = LoraBench(random_model(given.folder), given.steps, given.rounds)
    note("card", {"name": torch.cuda.get_device_name(), "torch": torch.__version__})
    note("first picture, loading", round(bench.draw()[0], 3))
    unet = bench.model.networks["unet"]
    one, other, wider = (
        write_lora(given.folder / f"{name}.safetensors", unet, rank, seed)
        for name, rank, seed in (
            ("one-lora", given.rank, 1),
            ("other-lora", given.rank, 2),
            ("wider-lora", 2 * given.rank, 3),
        )
    )
    note("without, recorded", bench.timed())
    note("a LoRA, read and recorded", bench.first(one))
    note("with it, recorded", bench.timed())
    note("off again", bench.first(None))
    note("on again", bench.first(one))
    note("another weight", bench.first(one, _OTHER_WEIGHT))
    note("another LoRA of its form, read", bench.first(other))
    note("the first again", bench.first(one))
    note("another LoRA of twice its rank, read", bench.first(wider))
    bench.choose(one)
    with bench.plainly():
        note("with it, plain", bench.timed())
        note("putting it on, plain", bench.put_on(one))
        bench.choose(None)
        note("without, plain", bench.timed())
    note("putting it on, recorded", bench.put_on(one))
    note("same bits", bench.same_loras_bits(one, 1024))
    note("held", bench.held(one))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
