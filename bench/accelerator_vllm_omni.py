"""vLLM-Omni's SDXL on a card: its UNet in its pipeline's own denoising loop, then diffusers'
decoder and a PNG, random numbers; as it is, and with its UNet's repeated blocks compiled as its
model runner does.

`python -m bench.accelerator_vllm_omni FOLDER ...` takes the folders of the unpacked wheels of
`vllm-omni` and `vllm` and of what they need; their Python files suffice: what vLLM has compiled
is not asked for by this model. A line of JSON with medians for each way. Attention is torch's.
Texts are encoded before, as for `bench.accelerator_peer`.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler
from PIL import Image

from bench.memory_factors import known
from tests.domains.model.corpus.configurations import VAE

_OMNI = "vllm_omni"
_SDXL = f"{_OMNI}.diffusion.models.sdxl"
_ATTENTION = f"{_OMNI}.diffusion.attention.backends.sdpa.SDPABackend"
_ADDRESS = "tcp://127.0.0.1:29777"
_GUIDANCE, _SPREAD, _SCALE = 7.0, 0.02, 8


def _without_their_beginnings(folders: list[Path]) -> None:
    """Have packages that import everything import nothing: models of sound and text too."""
    (root,) = (folder for folder in folders if (folder / _OMNI).is_dir())
    parts = _SDXL.split(".")
    for count in range(1, len(parts) + 1):
        module = types.ModuleType(".".join(parts[:count]))
        module.__path__ = [str(root.joinpath(*parts[:count]))]
        sys.modules[module.__name__] = module


def _without_what_is_compiled() -> None:
    """Have vLLM see no maker it knows, whose platforms want what it has compiled. Attention is
    then chosen for it as its platform for CUDA does where no library for that is installed.
    """
    unseen = types.ModuleType("vllm.third_party.pynvml")

    class NVMLError(Exception):
        pass

    def refuse() -> None:
        raise NVMLError

    unseen.nvmlInit = refuse  # type: ignore[attr-defined]
    sys.modules[unseen.__name__] = unseen
    platform: Any = import_module(f"{_OMNI}.platforms.interface").UnspecifiedOmniPlatform
    platform.is_cuda = lambda self: True
    platform.get_diffusion_attn_backend_cls = lambda self, **_: _ATTENTION


def _pipeline(device: torch.device, data_type: torch.dtype) -> Any:
    """Their pipeline with their UNet and nothing else."""
    ours = import_module(f"{_SDXL}.pipeline_sdxl")
    unets = import_module(f"{_SDXL}.sdxl_unet")
    config, groups = import_module("vllm.config"), import_module("vllm.distributed")
    states = import_module(f"{_OMNI}.diffusion.distributed.parallel_state")
    settings = config.VllmConfig(device_config=config.DeviceConfig(device.type))
    backend = "nccl" if device.type == "cuda" else "gloo"
    options = types.SimpleNamespace(dtype=data_type)
    with config.set_current_vllm_config(settings), device:
        groups.init_distributed_environment(1, 0, _ADDRESS, 0, backend=backend)
        states.init_distributed_environment(1, 0, 0, _ADDRESS, backend=backend)
        states.initialize_model_parallel(backend=backend)
        torch.set_default_dtype(data_type)
        unet = unets.SDXLUNet2DConditionModel(od_config=options)
        torch.set_default_dtype(torch.float32)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=_SPREAD)
    pipeline = ours.StableDiffusionXLPipeline.__new__(ours.StableDiffusionXLPipeline)
    torch.nn.Module.__init__(pipeline)
    pipeline.unet, pipeline.device, pipeline.od_config = unet.eval(), device, options
    pipeline.scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    pipeline.vae_scale_factor = _SCALE
    pipeline._guidance_scale, pipeline._interrupt = _GUIDANCE, False
    return pipeline


def _drawing(pipeline: Any, vae: Any, edge: int, steps: int) -> Callable[[], float]:
    """Draws a picture to its PNG; seconds."""
    device, kind = pipeline.device, pipeline.od_config.dtype

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device).to(kind)

    size = torch.tensor([[edge, edge, 0, 0, edge, edge]], dtype=torch.float32, device=device)
    texts = [
        (made(1, 77, 2048), {"text_embeds": made(1, 1280), "time_ids": size}) for _ in range(2)
    ]

    def draw() -> float:
        began = time.perf_counter()
        scheduler = pipeline.scheduler
        scheduler.set_timesteps(steps)
        scheduler.sigmas = scheduler.sigmas.to(device)
        scheduler.timesteps = scheduler.timesteps.to(device)
        latents = pipeline.prepare_latents(
            1, 4, edge, edge, torch.Generator(device).manual_seed(7), None
        )
        (prompt, added), (negative, negative_added) = texts
        latents = pipeline.diffuse(
            latents,
            scheduler.timesteps,
            prompt,
            added,
            negative,
            negative_added,
            True,
            _GUIDANCE,
        )
        image = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
        pixels = ((image[0].float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
        data = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(
            data, "PNG", compress_level=1
        )
        return time.perf_counter() - began

    return draw


def main(arguments: list[str]) -> int:
    """Draw both ways, a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_vllm_omni", description=__doc__
    )
    parser.add_argument("folders", type=Path, nargs="+", help="Of unpacked wheels.")
    parser.add_argument("--used", type=Path, help="Lists the files that were needed, there.")
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    sys.path[:0] = map(str, given.folders)
    _without_their_beginnings(given.folders)
    _without_what_is_compiled()
    card = torch.cuda.is_available()
    device = torch.device("cuda" if card else "cpu")
    with torch.no_grad():
        pipeline = _pipeline(device, torch.bfloat16)
        with device:
            vae: Any = AutoencoderKL(**known(AutoencoderKL, VAE))  # type: ignore[no-untyped-call]
        draw = _drawing(pipeline, vae.eval().to(torch.bfloat16), given.edge, given.steps)
        for way in ("as it is", "blocks compiled"):
            if way == "blocks compiled":
                compile_blocks = import_module(f"{_OMNI}.diffusion.compile").regionally_compile
                pipeline.unet = compile_blocks(pipeline.unet, dynamic=False)
            first = draw()
            draw()
            seconds = statistics.median(draw() for _ in range(given.rounds))
            told = {"way": way, "first_s": round(first, 2), "picture_s": round(seconds, 4)}
            print(json.dumps(told), flush=True)
    if given.used is not None:
        used = sorted(_used(given.folders))
        given.used.write_text("\n".join(used) + "\n")
    return 0


def _used(folders: list[Path]) -> Iterator[str]:
    """Files of these folders that were imported."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if any(file.startswith(str(folder)) for folder in folders):
            yield file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
