"""Checkpoints with quantised weights.

Names from bitsandbytes (`QuantState.as_dict`, `Int8Params`) and ComfyUI's scaled fp8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.checkpoints import sdxl
from tests.domains.model.corpus.families import flux
from tests.domains.model.corpus.parts import Shapes
from tests.domains.model.corpus.sample import Sample

CHECKPOINT = ModelType.CHECKPOINT


def _matrices(shapes: Shapes) -> list[str]:
    return [name for name, shape in shapes.items() if len(shape) == 2]


def samples() -> Iterator[tuple[str, Sample]]:
    """Every way by a name for tests."""
    plain = sdxl()
    yield (
        "sdxl-fp8",
        Sample(
            plain,
            CHECKPOINT,
            Architecture.SDXL,
            told={"quantisation": "fp8"},
            data_types=dict.fromkeys(plain, "F8_E4M3"),
        ),
    )
    scales = {f"{name.removesuffix('weight')}scale_weight": () for name in _matrices(plain)}
    yield (
        "sdxl-scaled-fp8",
        Sample(
            plain | scales | {"model.diffusion_model.scaled_fp8": (0,)},
            CHECKPOINT,
            Architecture.SDXL,
            told={"quantisation": "scaled fp8"},
            data_types=dict.fromkeys(plain, "F8_E5M2"),
        ),
    )
    packed: Shapes = {}
    types: dict[str, str] = {}
    shapes = flux(guided=True)
    for name, shape in shapes.items():
        if len(shape) != 2:
            packed[name] = shape
            continue
        size = math.prod(shape)
        packed |= {
            name: (size // 2, 1),
            f"{name}.absmax": (size // 64,),
            f"{name}.quant_map": (16,),
            f"{name}.quant_state.bitsandbytes__nf4": (86,),
        }
        types |= {name: "U8", f"{name}.quant_state.bitsandbytes__nf4": "U8"}
    yield (
        "flux-nf4",
        Sample(
            {f"model.diffusion_model.{name}": shape for name, shape in packed.items()},
            CHECKPOINT,
            Architecture.FLUX,
            "Flux.1 dev",
            {"quantisation": "nf4 (bitsandbytes)"},
            data_types={f"model.diffusion_model.{name}": t for name, t in types.items()},
        ),
    )
    rows = {f"{name.removesuffix('weight')}SCB": shapes[name][:1] for name in _matrices(shapes)}
    yield (
        "flux-int8",
        Sample(
            shapes | rows,
            CHECKPOINT,
            Architecture.FLUX,
            "Flux.1 dev",
            {"quantisation": "int8 (bitsandbytes)"},
            data_types=dict.fromkeys(_matrices(shapes), "I8"),
        ),
    )
