"""Upscalers, restorers of faces and pictures, and what makes control pictures.

The names are those that spandrel (chaiNNer) tells its architectures by; the last ones come from
GFPGAN, CodeFormer, Depth-Anything, MiDaS and lllyasviel's annotators.
"""

from __future__ import annotations

from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.marks import Mark, first_fitting
from domains.model.backends.recognition.tensors import Tensors
from domains.model.types import ModelType

_WRAPPERS = (
    *("params_ema.", "params.", "params-ema.", "model_state_dict.", "state_dict."),
    *("module.", "model.netG.", "generator.", "net_g."),
)


def _upscaler(kind: str, *every: str, some: tuple[str, ...] = ()) -> Mark:
    return Mark(Recognised(ModelType.UPSCALER, kind=kind), every=every, some=some)


def _restorer(kind: str, *every: str) -> Mark:
    return Mark(Recognised(ModelType.UPSCALER, kind=f"{kind}, restores"), every=every)


def _faces(kind: str, *every: str) -> Mark:
    return Mark(Recognised(ModelType.FACE_RESTORER, kind=kind), every=every)


def _control_picture(kind: str, *every: str) -> Mark:
    return Mark(Recognised(ModelType.CONTROL_PREPROCESSOR, kind=kind), every=every)


_SWIN = "layers.0.residual_group.blocks.0."
_TABLE = f"{_SWIN}attn.relative_position_index"
# The order matters: a mark may be part of one further down.
_MARKS: tuple[Mark, ...] = (
    _faces("GFPGAN", "stylegan_decoder.style_mlp.1.weight", "toRGB.0.weight"),
    _faces("GFPGAN (bilinear)", "stylegan_decoder.style_mlp.1.weight", "toRGB.0."),
    _faces(
        "CodeFormer",
        "position_emb",
        "quantize.embedding.weight",
        "ft_layers.0.self_attn.in_proj_weight",
    ),
    _faces(
        "RestoreFormer",
        "quantize.embedding.weight",
        "encoder.conv_in.weight",
        "encoder.down.0.block.0.norm1.weight",
    ),
    _control_picture("Depth-Anything", "backbone.embeddings.", "neck.", "head.conv3."),
    _control_picture("Depth-Anything", "pretrained.blocks.0.", "depth_head.scratch."),
    _control_picture("MiDaS DPT", "pretrained.model.blocks.0.", "scratch.refinenet1."),
    _control_picture("HED", "norm", "block1.convs.0.", "block1.projection."),
    _control_picture("PiDiNet", "init_block.", "block1_1.conv1.", "conv_reduces.0."),
    _control_picture(
        "line art", "model0.1.", "model1.0.", "model2.0.conv_block.1.", "model4.1."
    ),
    _upscaler(
        "HAT",
        "relative_position_index_SA",
        f"{_SWIN}conv_block.cab.0.",
        "layers.0.residual_group.overlap_attn.",
    ),
    _upscaler(
        "ATD",
        "relative_position_index_SA",
        "layers.0.residual_group.td",
        "layers.0.residual_group.layers.0.sigma",
    ),
    _upscaler("DRCT", "conv_first.", "layers.0.swin1.attn.", "layers.0.adjust1."),
    _upscaler(
        "DAT",
        "conv_first.",
        "before_RG.1.",
        "layers.0.blocks.0.ffn.sg.conv.",
        "layers.0.blocks.0.attn.channel_interaction.1.",
    ),
    _upscaler("RGT", "conv_first.", "before_RG.1.", "layers.0.blocks.0.gamma"),
    _upscaler("Swin2SR", "patch_embed.proj.", "conv_first.", f"{_SWIN}attn.logit_scale"),
    _upscaler("Swin2SR", "swin2sr.first_convolution."),
    _upscaler("SwinIR", "conv_first.", f"{_SWIN}norm1.", _TABLE),
    _upscaler("OmniSR", "residual_layer.0.residual_layer.0.layer.0.fn.0.", "input.", "up.0."),
    _upscaler("SPAN", "conv_1.sk.", "block_1.c1_r.sk.", "conv_cat.", "upsampler.0."),
    _upscaler("RealPLKSR", "feats.0.", "feats.1.lk.conv.", "feats.1.channel_mixer.0."),
    _upscaler("PLKSR", "feats.0.", "feats.1.lk.conv.", "feats.1.channe_mixer.0."),
    _upscaler("RRDB", "conv_first.", some=("body.0.rdb1.", "RRDB_trunk.0.", "body.0.RDB1.")),
    _upscaler("RRDB", "model.0.", "model.1.sub.0.", some=("model.1.sub.0.RDB1.",)),
    _upscaler("RCAN", "head.", "body.0.body.0.body.3.conv_du.0.", "tail.1."),
    _restorer("SCUNet", "m_head.0.", "m_tail.0.", "m_down1.0."),
    _restorer("NAFNet", "intro.", "ending.", "middle_blks.0.beta"),
    _restorer(
        "Restormer", "patch_embed.proj.", "encoder_level1.0.attn.temperature", "refinement.0."
    ),
    _upscaler("", "conv_first.weight"),
)
_COMPACT = Recognised(ModelType.UPSCALER, kind="Compact")


def wrapper_of(tensors: Tensors) -> str:
    """What stands before the name of each tensor of the network; of a file with both averaged
    and plain weights, as trainers save them, before the averaged ones."""
    common = (wrapper for wrapper in _WRAPPERS if len(tensors) and tensors.only(wrapper))
    return next(common, next(filter(tensors.has, ("params_ema.", "params.")), ""))


def enlarger(tensors: Tensors) -> Recognised | None:
    """What a file is that makes pictures of pictures; None where it is none."""
    inner = tensors.below(wrapper_of(tensors))
    shapes = inner.shapes
    # Compact (SRVGG): convolutions and, between them, one slope per channel.
    if [len(shapes.get(f"body.{layer}.weight", ())) for layer in (0, 1)] == [4, 1]:
        return _COMPACT
    return first_fitting(_MARKS, inner)
