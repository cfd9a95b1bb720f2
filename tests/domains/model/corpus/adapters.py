"""LoRAs of every kind, made of the layers of the real UNets and text encoders.

Names from kohya-ss/sd-scripts (`networks/lora.py`), diffusers and peft, LyCORIS
(`lycoris/modules`); shapes as those modules make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
FLUX, SD3 = Architecture.FLUX, Architecture.SD3
RANK, ALPHA = 16, ()
Write = Callable[[str, tuple[int, ...]], Shapes]
_ATTENTION = (
    *("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"),
    *("proj_in.weight", "proj_out.weight", "ff.net.0.proj.weight", "ff.net.2.weight"),
)
_CONVOLUTION = (
    *("conv1.weight", "conv2.weight", "time_emb_proj.weight", "conv_shortcut.weight"),
    *("samplers.0.conv.weight", "op.weight", "skip_connection.weight"),
    *("in_layers.2.weight", "out_layers.3.weight", "emb_layers.1.weight"),
)
_TEXT = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")
_TEXT += ("fc1.weight", "fc2.weight")


def attention(name: str) -> Shapes:
    """The layers of a UNet's transformers, which LoRAs change most often."""
    return {
        key.removesuffix(".weight"): shape
        for key, shape in part(name).items()
        if key.endswith(_ATTENTION) and ("attentions" in key or ".1." in key)
    }


def convolution(name: str) -> Shapes:
    """The layers of its residual blocks and samplers."""
    return {
        key.removesuffix(".weight"): shape
        for key, shape in part(name).items()
        if key.endswith(_CONVOLUTION)
    }


def text(name: str) -> Shapes:
    """The layers of a text encoder's transformer."""
    return {
        key.removesuffix(".weight"): shape
        for key, shape in part(name).items()
        if key.endswith(_TEXT)
    }


def kohya(prefix: str) -> Callable[[str], str]:
    """How kohya's trainers name a layer."""
    return lambda layer: f"{prefix}_{layer.replace('.', '_')}"


def _down(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (RANK, *shape[1:])


def _up(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], RANK, *(1 for _ in shape[2:]))


def lora(layer: str, shape: tuple[int, ...]) -> Shapes:
    """kohya's pair, with its alpha."""
    return {
        f"{layer}.lora_down.weight": _down(shape),
        f"{layer}.lora_up.weight": _up(shape),
        f"{layer}.alpha": ALPHA,
    }


def peft(layer: str, shape: tuple[int, ...], between: str = "") -> Shapes:
    """peft's pair."""
    return {
        f"{layer}.lora_A.{between}weight": _down(shape),
        f"{layer}.lora_B.{between}weight": _up(shape),
    }


def loha(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/loha.py`; with a Tucker core where the kernel is larger than one."""
    out, size = shape[:2]
    if shape[2:3] > (1,):
        factors: Shapes = {}
        for n in "12":
            factors[f"{layer}.hada_t{n}"] = (RANK, RANK, *shape[2:])
            factors[f"{layer}.hada_w{n}_a"] = (RANK, out)
            factors[f"{layer}.hada_w{n}_b"] = (RANK, size)
        return factors | {f"{layer}.alpha": ALPHA}
    flat = size if len(shape) == 2 else size * shape[2] * shape[3]
    return {
        f"{layer}.hada_w1_a": (out, RANK),
        f"{layer}.hada_w1_b": (RANK, flat),
        f"{layer}.hada_w2_a": (out, RANK),
        f"{layer}.hada_w2_b": (RANK, flat),
        f"{layer}.alpha": ALPHA,
    }


def lokr(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/lokr.py` with a factor of 8: a small matrix and a pair."""
    out, size = shape[0] // 8, shape[1] // 8
    return {
        f"{layer}.lokr_w1": (8, 8),
        f"{layer}.lokr_w2_a": (out, RANK),
        f"{layer}.lokr_w2_b": (RANK, size, *shape[2:])
        if len(shape) == 2
        else (RANK, size * shape[2] * shape[3]),
        f"{layer}.alpha": ALPHA,
    }


def lokr_whole(layer: str, shape: tuple[int, ...]) -> Shapes:
    """LoKr with `full_matrix`: two matrices."""
    return {
        f"{layer}.lokr_w1": (8, 8),
        f"{layer}.lokr_w2": (shape[0] // 8, shape[1] // 8, *shape[2:]),
        f"{layer}.alpha": ALPHA,
    }


def glora(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/glora.py`."""
    out, size = shape[:2]
    return {
        f"{layer}.a1.weight": (RANK, size),
        f"{layer}.a2.weight": (size, RANK),
        f"{layer}.b1.weight": (RANK, size),
        f"{layer}.b2.weight": (out, RANK),
        f"{layer}.alpha": ALPHA,
    }


def oft(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/diag_oft.py`."""
    return {f"{layer}.oft_blocks": (shape[0] // 8, 8, 8), f"{layer}.alpha": ALPHA}


def boft(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/boft.py`."""
    return {f"{layer}.oft_blocks": (3, shape[0] // 8, 8, 8), f"{layer}.alpha": ALPHA}


def ia3(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/ia3.py`: a factor for each output, or each input."""
    return {f"{layer}.weight": (shape[0], 1), f"{layer}.on_input": ()}


def full(layer: str, shape: tuple[int, ...]) -> Shapes:
    """`lycoris/modules/full.py`: the whole difference."""
    return {f"{layer}.diff": shape, f"{layer}.diff_b": shape[:1]}


def dora(layer: str, shape: tuple[int, ...]) -> Shapes:
    """LyCORIS's weight decomposition."""
    scale = (1, shape[1], *(1 for _ in shape[2:]))
    return lora(layer, shape) | {f"{layer}.dora_scale": scale}


def peft_dora(layer: str, shape: tuple[int, ...]) -> Shapes:
    """peft's weight decomposition."""
    return peft(layer, shape) | {f"{layer}.lora_magnitude_vector": shape[:1]}


def processor(layer: str, shape: tuple[int, ...]) -> Shapes:
    """diffusers' older attention processors, which had the pairs."""
    block, _, own = layer.rpartition(".attn")
    number, _, name = own.partition(".")
    start = f"{block}.attn{number}.processor.{name.removesuffix('.0')}_lora"
    return {f"{start}.down.weight": _down(shape), f"{start}.up.weight": _up(shape)}


def linear_layer(layer: str, shape: tuple[int, ...]) -> Shapes:
    """diffusers' text encoders before peft."""
    return {
        f"{layer}.lora_linear_layer.down.weight": _down(shape),
        f"{layer}.lora_linear_layer.up.weight": _up(shape),
    }


def written(changed: Shapes, write: Write, name: Callable[[str], str] = str) -> Shapes:
    """The file that has a change for each of these layers."""
    shapes: Shapes = {}
    for layer, shape in changed.items():
        shapes |= write(name(layer), shape)
    return shapes


def _projections(unet: str) -> Shapes:
    """The layers that attention processors had."""
    ends = ("to_q", "to_k", "to_v", "to_out.0")
    return {name: shape for name, shape in attention(unet).items() if name.endswith(ends)}


def _dotted(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer


UNET, TE = kohya("lora_unet"), kohya("lora_te")
TE1, TE2 = kohya("lora_te1"), kohya("lora_te2")


def samples() -> Iterator[tuple[str, Sample]]:
    """Every kind by a name for tests."""
    for name, shapes, architecture, kind in _made():
        yield f"lora-{name}", Sample(shapes, ModelType.LORA, architecture, kind)


def _made() -> Iterator[tuple[str, Shapes, Architecture | None, str]]:
    xl, xl_original = attention("unet-sdxl"), attention("unet-sdxl-original")
    sd1, sd2 = attention("unet-sd1"), attention("unet-sd2")
    yield (
        "kohya-sdxl",
        written(xl_original, lora, UNET)
        | written(text("clip-l"), lora, TE1)
        | written(text("openclip-g"), lora, TE2),
        SDXL,
        "LoRA",
    )
    yield "kohya-sdxl-diffusers-blocks", written(xl, lora, UNET), SDXL, "LoRA"
    yield (
        "kohya-sd1",
        written(sd1, lora, UNET) | written(text("clip-l"), lora, TE),
        SD1,
        "LoRA",
    )
    yield (
        "kohya-sd2",
        written(sd2, lora, UNET) | written(text("openclip-h"), lora, TE),
        SD2,
        "LoRA",
    )
    yield "kohya-text-sd1", written(text("clip-l"), lora, TE), SD1, "LoRA"
    yield "kohya-text-sd2", written(text("openclip-h"), lora, TE), SD2, "LoRA"
    refiner = attention("unet-refiner-original")
    yield "kohya-refiner", written(refiner, lora, UNET), SDXL, "LoRA for the refiner"
    yield (
        "locon-sd1",
        written(sd1 | convolution("unet-sd1"), lora, UNET),
        SD1,
        "LoCon",
    )
    yield (
        "locon-sdxl",
        written(xl_original | convolution("unet-sdxl-original"), lora, UNET),
        SDXL,
        "LoCon",
    )
    yield (
        "diffusers-sdxl",
        written(xl, peft, _dotted("unet."))
        | written(text("openclip-g"), peft, _dotted("text_encoder_2.")),
        SDXL,
        "LoRA",
    )
    yield "diffusers-sd1", written(sd1, peft, _dotted("unet.")), SD1, "LoRA"
    yield "peft-sd1", written(sd1, peft, _dotted("base_model.model.")), SD1, "LoRA"
    named = written(xl, lambda layer, shape: peft(layer, shape, "default."))
    yield "peft-default-sdxl", named, SDXL, "LoRA"
    yield "bare-sdxl", written(xl, peft), SDXL, "LoRA"
    yield "processor-sd1", written(_projections("unet-sd1"), processor), SD1, "LoRA"
    yield (
        "processor-sdxl",
        written(_projections("unet-sdxl"), processor, _dotted("unet.")),
        SDXL,
        "LoRA",
    )
    yield (
        "linear-layer-sd1",
        written(_projections("unet-sd1"), processor, _dotted("unet."))
        | written(text("clip-l"), linear_layer, _dotted("text_encoder.")),
        SD1,
        "LoRA",
    )
    for kind, write in (
        ("LoHa", loha),
        ("LoKr", lokr),
        ("LoKr", lokr_whole),
        ("GLoRA", glora),
        ("full difference", full),
        ("DoRA", dora),
    ):
        called = write.__name__.replace("_", "-")
        yield f"{called}-sdxl", written(xl_original, write, UNET), SDXL, kind
        yield f"{called}-sd1", written(sd1, write, UNET), SD1, kind
        yield f"{called}-sd2", written(sd2, write, UNET), SD2, kind
    yield (
        "loha-tucker-sd1",
        written(sd1 | convolution("unet-sd1"), loha, UNET),
        SD1,
        "LoHa",
    )
    yield "dora-peft-sdxl", written(xl, peft_dora, _dotted("unet.")), SDXL, "DoRA"
    for kind, write in (("OFT", oft), ("BOFT", boft), ("IA3", ia3)):
        called = kind.lower()
        yield f"{called}-sdxl", written(xl_original, write, UNET), SDXL, kind
        yield f"{called}-sd1-unet", written(sd1, write, UNET), None, kind
    norms = {
        key.removesuffix(".weight"): shape
        for key, shape in part("unet-sdxl-original").items()
        if ".norm" in key and key.endswith(".weight")
    }
    yield (
        "norm-sdxl",
        written(norms, lambda n, s: {f"{n}.w_norm": s, f"{n}.b_norm": s}, UNET),
        SDXL,
        "norm",
    )
    yield from _transformers()


def _transformers() -> Iterator[tuple[str, Shapes, Architecture | None, str]]:
    flux = {
        key.removesuffix(".weight"): shape
        for key, shape in part("flux-dev").items()
        if key.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "proj_mlp.weight"))
    }
    yield "diffusers-flux", written(flux, peft, _dotted("transformer.")), FLUX, "LoRA"
    original = {
        f"double_blocks.{block}.{side}_attn.qkv": (9216, 3072)
        for block in range(19)
        for side in ("img", "txt")
    } | {f"single_blocks.{block}.linear1": (21504, 3072) for block in range(38)}
    yield "kohya-flux", written(original, lora, UNET), FLUX, "LoRA"
    yield "comfy-flux", written(original, peft, _dotted("diffusion_model.")), FLUX, "LoRA"
    sd3 = {
        key.removesuffix(".weight"): shape
        for key, shape in part("sd3").items()
        if key.endswith(("attn.to_q.weight", "attn.add_k_proj.weight"))
    }
    yield "diffusers-sd3", written(sd3, peft, _dotted("transformer.")), SD3, "LoRA"
    joint = {
        f"joint_blocks.{block}.{side}_block.attn.qkv": (4608, 1536)
        for block in range(24)
        for side in ("x", "context")
    }
    yield "kohya-sd3", written(joint, lora, UNET), SD3, "LoRA"
    wan = {f"blocks.{n}.cross_attn.{w}": (5120, 5120) for n in range(40) for w in "qkvo"}
    yield "comfy-wan", written(wan, peft, _dotted("diffusion_model.")), None, "LoRA"
