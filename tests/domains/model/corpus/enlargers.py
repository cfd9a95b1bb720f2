"""Upscalers, restorers, and what makes control pictures.

The layers of each network that spandrel (chaiNNer) tells it by, with the shapes of the
published models; RRDB and Compact whole (`RRDBNet_arch.py`, `srvgg_arch.py` of BasicSR).
"""

from __future__ import annotations

from collections.abc import Iterator

from domains.model.types import ModelType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

UPSCALER, FACES = ModelType.UPSCALER, ModelType.FACE_RESTORER
PREPROCESSOR = ModelType.CONTROL_PREPROCESSOR
_SWIN = "layers.0.residual_group.blocks.0."


def rrdb() -> Shapes:
    """RealESRGAN_x4plus: 23 blocks of three."""
    shapes: Shapes = {"conv_first.weight": (64, 3, 3, 3), "conv_first.bias": (64,)}
    for block in range(23):
        for dense in (1, 2, 3):
            for layer in range(1, 6):
                start = f"body.{block}.rdb{dense}.conv{layer}"
                out = 64 if layer == 5 else 32
                shapes[f"{start}.weight"] = (out, 64 + 32 * (layer - 1), 3, 3)
                shapes[f"{start}.bias"] = (out,)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        shapes[f"{name}.weight"] = (64, 64, 3, 3)
        shapes[f"{name}.bias"] = (64,)
    return shapes | {"conv_last.weight": (3, 64, 3, 3), "conv_last.bias": (3,)}


def _rrdb_trunk() -> Shapes:
    """BSRGAN and the first ESRGAN code: other names for the same."""
    names = {
        "conv_body": "trunk_conv",
        "conv_up1": "upconv1",
        "conv_up2": "upconv2",
        "conv_hr": "HRconv",
    }
    shapes: Shapes = {}
    for name, shape in rrdb().items():
        first, _, rest = name.partition(".")
        if first == "body":
            rest = rest.replace(".rdb", ".RDB")
            shapes[f"RRDB_trunk.{rest}"] = shape
        else:
            shapes[f"{names.get(first, first)}.{rest}"] = shape
    return shapes


def _rrdb_old() -> Shapes:
    """ESRGAN's old architecture: places in a sequence instead of names."""
    places = {
        "conv_first": "model.0",
        "conv_body": "model.1.sub.23",
        "conv_up1": "model.3",
        "conv_up2": "model.6",
        "conv_hr": "model.8",
        "conv_last": "model.10",
    }
    shapes: Shapes = {}
    for name, shape in rrdb().items():
        first, _, rest = name.partition(".")
        if first == "body":
            block, dense, layer, end = rest.split(".")
            shapes[f"model.1.sub.{block}.{dense.upper()}.{layer}.0.{end}"] = shape
        else:
            shapes[f"{places[first]}.{rest}"] = shape
    return shapes


def compact() -> Shapes:
    """realesr-general-x4v3: 32 convolutions with a slope for each channel between them."""
    shapes: Shapes = {"body.0.weight": (64, 3, 3, 3), "body.0.bias": (64,)}
    for layer in range(1, 66, 2):
        shapes[f"body.{layer}.weight"] = (64,)
        shapes[f"body.{layer + 1}.weight"] = (64, 64, 3, 3)
        shapes[f"body.{layer + 1}.bias"] = (64,)
    return shapes | {"body.66.weight": (48, 64, 3, 3), "body.66.bias": (48,)}


def _wrapped(shapes: Shapes, *wrappers: str) -> Shapes:
    return {f"{w}.{name}": shape for w in wrappers for name, shape in shapes.items()}


_SWIN_BLOCK: Shapes = {
    "conv_first.weight": (180, 3, 3, 3),
    f"{_SWIN}norm1.weight": (180,),
    f"{_SWIN}attn.relative_position_index": (64, 64),
    f"{_SWIN}attn.relative_position_bias_table": (225, 6),
    f"{_SWIN}attn.qkv.weight": (540, 180),
    f"{_SWIN}mlp.fc1.bias": (360,),
    "patch_embed.norm.weight": (180,),
    "conv_after_body.weight": (180, 180, 3, 3),
    "conv_last.weight": (3, 64, 3, 3),
}
_OTHERS: tuple[tuple[str, ModelType, Shapes], ...] = (
    ("SwinIR", UPSCALER, _SWIN_BLOCK),
    (
        "Swin2SR",
        UPSCALER,
        _SWIN_BLOCK
        | {"patch_embed.proj.weight": (180, 180, 1, 1), f"{_SWIN}attn.logit_scale": (6, 1, 1)},
    ),
    (
        "HAT",
        UPSCALER,
        {
            "relative_position_index_SA": (256, 256),
            "relative_position_index_OCA": (256, 576),
            "conv_first.weight": (180, 3, 3, 3),
            f"{_SWIN}norm1.weight": (180,),
            f"{_SWIN}conv_block.cab.0.weight": (60, 180, 3, 3),
            f"{_SWIN}conv_block.cab.3.attention.1.weight": (6, 180, 1, 1),
            "layers.0.residual_group.overlap_attn.qkv.weight": (540, 180),
            "conv_last.weight": (3, 64, 3, 3),
        },
    ),
    (
        "DAT",
        UPSCALER,
        {
            "conv_first.weight": (180, 3, 3, 3),
            "before_RG.1.weight": (180,),
            "layers.0.blocks.0.ffn.sg.conv.weight": (360, 1, 3, 3),
            "layers.0.blocks.0.attn.qkv.weight": (540, 180),
            "layers.0.blocks.0.attn.channel_interaction.1.weight": (22, 180, 1, 1),
            "conv_after_body.weight": (180, 180, 3, 3),
        },
    ),
    (
        "RGT",
        UPSCALER,
        {
            "conv_first.weight": (180, 3, 3, 3),
            "before_RG.1.weight": (180,),
            "layers.0.blocks.0.gamma": (180,),
            "layers.0.blocks.0.attn.qkv.weight": (540, 180),
        },
    ),
    (
        "ATD",
        UPSCALER,
        {
            "relative_position_index_SA": (256, 256),
            "conv_first.weight": (210, 3, 3, 3),
            "layers.0.residual_group.td": (1, 128, 210),
            "layers.0.residual_group.layers.0.sigma": (),
            "layers.0.residual_group.layers.0.attn_atd.scale": (128,),
        },
    ),
    (
        "DRCT",
        UPSCALER,
        {
            "conv_first.weight": (180, 3, 3, 3),
            "layers.0.swin1.attn.qkv.weight": (540, 180),
            "layers.0.swin1.norm1.weight": (180,),
            "layers.0.adjust1.weight": (32, 180, 1, 1),
        },
    ),
    (
        "OmniSR",
        UPSCALER,
        {
            "input.weight": (64, 3, 3, 3),
            "residual_layer.0.residual_layer.0.layer.0.fn.0.weight": (64, 64, 1, 1),
            "up.0.weight": (48, 64, 3, 3),
        },
    ),
    (
        "SPAN",
        UPSCALER,
        {
            "conv_1.sk.weight": (48, 3, 1, 1),
            "block_1.c1_r.sk.weight": (48, 48, 1, 1),
            "block_1.c1_r.eval_conv.weight": (48, 48, 3, 3),
            "conv_cat.weight": (48, 192, 1, 1),
            "conv_2.sk.weight": (48, 48, 1, 1),
            "upsampler.0.weight": (48, 48, 3, 3),
        },
    ),
    (
        "RealPLKSR",
        UPSCALER,
        {
            "feats.0.weight": (64, 3, 3, 3),
            "feats.1.channel_mixer.0.weight": (128, 64, 3, 3),
            "feats.1.lk.conv.weight": (16, 16, 17, 17),
            "feats.1.refine.weight": (64, 64, 1, 1),
        },
    ),
    (
        "PLKSR",
        UPSCALER,
        {
            "feats.0.weight": (64, 3, 3, 3),
            "feats.1.channe_mixer.0.weight": (128, 64, 3, 3),  # the original's spelling
            "feats.1.lk.conv.weight": (16, 16, 17, 17),
            "feats.1.refine.weight": (64, 64, 1, 1),
        },
    ),
    (
        "RCAN",
        UPSCALER,
        {
            "head.0.weight": (64, 3, 3, 3),
            "body.0.body.0.body.0.weight": (64, 64, 3, 3),
            "body.0.body.0.body.3.conv_du.0.weight": (4, 64, 1, 1),
            "tail.0.0.weight": (256, 64, 3, 3),
            "tail.1.weight": (3, 64, 3, 3),
        },
    ),
    (
        "SCUNet, restores",
        UPSCALER,
        {
            "m_head.0.weight": (64, 3, 3, 3),
            "m_down1.0.trans_block.ln1.weight": (32,),
            "m_tail.0.weight": (3, 64, 3, 3),
        },
    ),
    (
        "NAFNet, restores",
        UPSCALER,
        {
            "intro.weight": (64, 3, 3, 3),
            "ending.weight": (3, 64, 3, 3),
            "middle_blks.0.beta": (1, 1024, 1, 1),
            "middle_blks.0.conv1.weight": (2048, 1024, 1, 1),
        },
    ),
    (
        "Restormer, restores",
        UPSCALER,
        {
            "patch_embed.proj.weight": (48, 3, 3, 3),
            "encoder_level1.0.attn.temperature": (1, 1, 1),
            "encoder_level1.0.attn.qkv.weight": (144, 48, 1, 1),
            "refinement.0.attn.temperature": (1, 1, 1),
        },
    ),
    (
        "GFPGAN",
        FACES,
        {
            "conv_body_first.weight": (32, 3, 1, 1),
            "toRGB.0.weight": (3, 256, 1, 1),
            "stylegan_decoder.style_mlp.1.weight": (512, 512),
        },
    ),
    (
        "CodeFormer",
        FACES,
        {
            "position_emb": (256, 512),
            "quantize.embedding.weight": (1024, 256),
            "ft_layers.0.self_attn.in_proj_weight": (1536, 512),
            "encoder.blocks.0.weight": (64, 3, 3, 3),
        },
    ),
    (
        "RestoreFormer",
        FACES,
        {
            "quantize.embedding.weight": (1024, 256),
            "encoder.conv_in.weight": (64, 3, 3, 3),
            "quant_conv.weight": (256, 256, 1, 1),
            "encoder.down.0.block.0.norm1.weight": (64,),
            "encoder.conv_out.weight": (256, 512, 3, 3),
            "decoder.conv_out.weight": (3, 64, 3, 3),
        },
    ),
    (
        "Depth-Anything",
        PREPROCESSOR,
        {
            "pretrained.cls_token": (1, 1, 1024),
            "pretrained.blocks.0.attn.qkv.weight": (3072, 1024),
            "depth_head.projects.0.weight": (256, 1024, 1, 1),
            "depth_head.scratch.layer1_rn.weight": (256, 256, 3, 3),
        },
    ),
    (
        "PiDiNet",  # zhuoinoulu/pidinet, table5_pidinet
        PREPROCESSOR,
        {
            "init_block.weight": (60, 3, 3, 3),
            "block1_1.conv1.weight": (60, 1, 3, 3),
            "block1_1.conv2.weight": (60, 60, 1, 1),
            "conv_reduces.0.conv.weight": (1, 24, 1, 1),
        },
    ),
    (
        "HED",  # lllyasviel's ControlNetHED
        PREPROCESSOR,
        {
            "norm": (1, 3, 1, 1),
            "block1.convs.0.weight": (64, 3, 3, 3),
            "block1.projection.weight": (1, 64, 1, 1),
        },
    ),
)


def samples() -> Iterator[tuple[str, Sample]]:
    """Every kind by a name for tests."""
    for name, shapes in (
        ("rrdb", rrdb()),
        ("rrdb-params", _wrapped(rrdb(), "params")),
        ("rrdb-both", _wrapped(rrdb(), "params", "params_ema")),
        ("rrdb-trunk", _rrdb_trunk()),
        ("rrdb-old", _rrdb_old()),
    ):
        yield name, Sample(shapes, UPSCALER, kind="RRDB")
    yield "compact", Sample(compact(), UPSCALER, kind="Compact")
    yield "compact-params", Sample(_wrapped(compact(), "params"), UPSCALER, kind="Compact")
    yield "swin2sr-hf", Sample(part("swin2sr-hf"), UPSCALER, kind="Swin2SR")
    yield (
        "depth-anything-hf",
        Sample(part("depth-anything"), PREPROCESSOR, kind="Depth-Anything"),
    )
    for kind, type, shapes in _OTHERS:
        name = kind.lower().replace(", ", "-")
        yield name, Sample(shapes, type, kind=kind)
        yield f"{name}-ema", Sample(_wrapped(shapes, "params_ema"), type, kind=kind)
