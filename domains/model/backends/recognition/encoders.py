"""VAEs, text and image encoders, embeddings and classifiers.

Sources: the classes of diffusers and transformers, `open_clip`'s `model.py`, TAESD's
`taesd.py`, CompVis's safety checker.
"""

from __future__ import annotations

import re
from dataclasses import replace

from domains.model.backends.families.registry import marked, of_embedding_width
from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.marks import Mark, first_fitting
from domains.model.backends.recognition.tensors import Tensors
from domains.model.types import ModelType

_VAE, _TEXT, _IMAGE = ModelType.VAE, ModelType.TEXT_ENCODER, ModelType.IMAGE_ENCODER


def encoder(tensors: Tensors) -> Recognised | None:
    """What a file is that turns one thing into another; None where it is none."""
    for test in (_classifier, _vae, _text_encoder, _image_encoder, _embedding):
        found = test(tensors)
        if found is not None:
            return found
    return None


_CLASSIFIERS = (
    Mark(
        Recognised(ModelType.SAFETY_CLASSIFIER, kind="CompVis safety checker"),
        every=("concept_embeds", "special_care_embeds"),
    ),
    Mark(
        Recognised(ModelType.SAFETY_CLASSIFIER, kind="ViT classifier"),
        every=("vit.embeddings.", "vit.encoder.layer.", "classifier.weight"),
    ),
    Mark(
        Recognised(ModelType.SAFETY_CLASSIFIER, kind="ViT classifier"),
        every=("vit.embeddings.", "vit.layers.", "classifier.weight"),
    ),
)


def _classifier(tensors: Tensors) -> Recognised | None:
    return first_fitting(_CLASSIFIERS, tensors)


_VAES = (
    Mark(
        Recognised(_VAE, kind="Wan VAE", family="Wan"),
        every=("decoder.middle.0.residual.0.gamma",),
    ),
    Mark(
        Recognised(_VAE, kind="deep compression autoencoder", family="Sana"),
        every=("decoder.stages.", "encoder.stages."),
    ),
    Mark(
        Recognised(_VAE, kind="deep compression autoencoder", family="Sana"),
        every=("decoder.up_blocks.0.0.", "encoder.down_blocks.0.0."),
    ),
    Mark(
        Recognised(_VAE, kind="video VAE", family="a video model"),
        every=("decoder.conv_in.conv.weight",),
    ),
    Mark(
        Recognised(_VAE, kind="MoVQ", family="Kandinsky"),
        every=("quantize.embedding.", "decoder.", "encoder.conv_in."),
        none=("position_emb", "encoder.down.0.block.0.norm1."),
    ),
    # Both halves of a tiny autoencoder in one file, and each alone.
    Mark(Recognised(_VAE, kind="TAESD"), every=("taesd_decoder.1.",)),
    Mark(
        Recognised(_VAE, kind="TAESD"), every=("decoder.layers.0.", "encoder.layers.0.weight")
    ),
    Mark(Recognised(_VAE, kind="TAESD decoder"), every=("1.weight", "3.conv.0.", "3.conv.4.")),
    Mark(Recognised(_VAE, kind="TAESD encoder"), every=("0.weight", "1.conv.0.", "1.conv.4.")),
)
_TINY_INPUTS = ("taesd_decoder.1.weight", "decoder.layers.0.weight", "1.weight")
_VAE_PARTS = (
    *("encoder.", "decoder.", "quant_conv.", "post_quant_conv."),
    *("loss.", "model_ema.", "global_step"),
)
_MANY_CHANNELS = 16


def _vae(tensors: Tensors) -> Recognised | None:
    inner = tensors.unwrapped(("first_stage_model.", "vae.", "module."))
    if tensors.has("first_stage_model.decoder.") and not tensors.has("model.diffusion_model."):
        inner = tensors.below("first_stage_model.")
    named = first_fitting(_VAES, inner)
    if named is not None:
        channels = next((n for name in _TINY_INPUTS if (n := inner.size(name, 1))), 0)
        return _of_latents(named, channels) if "TAESD" in named.kind else named
    shapes = inner.shapes
    if "decoder.conv_out.weight" not in shapes or not inner.only(*_VAE_PARTS):
        return None
    if len(shapes.get("decoder.conv_in.weight", ())) == 5:
        return Recognised(_VAE, kind="video VAE", family="a video model")
    # SDXL's and SD 1.x's have the same tensors; only their scale differs.
    return _of_latents(Recognised(_VAE), inner.size("decoder.conv_in.weight", 1))


def _of_latents(found: Recognised, channels: int) -> Recognised:
    """Latents of 16 channels are those of SD3 and Flux."""
    if channels != _MANY_CHANNELS:
        return found
    return replace(found, kind=f"{found.kind} 16 channels".strip(), family="SD3 or Flux")


# Width and layers of text encoders that have a name; SD 2.x's lacks its last layer.
_CLIP_KINDS = {
    (768, 12): "CLIP-L",
    (1024, 23): "OpenCLIP-H",
    (1024, 24): "OpenCLIP-H",
    (1280, 32): "OpenCLIP-G",
}
OPENAI_VISION = "CLIP ViT-L"
"""OpenAI's; the larger ones are OpenCLIP's, with another activation."""
_VISION_KINDS = {
    (1024, 24): OPENAI_VISION,
    (1280, 32): "CLIP ViT-H",
    (1664, 48): "CLIP ViT-bigG",
}
_TEXT_WRAPPERS = (
    *("cond_stage_model.model.", "cond_stage_model.transformer.", "cond_stage_model."),
    *("conditioner.embedders.0.model.", "conditioner.embedders.0.transformer."),
    *("conditioner.embedders.1.model.", "text_encoders.clip_l.transformer."),
    *("text_encoders.clip_g.transformer.", "text_encoder.", "transformer."),
)


def _text_encoder(tensors: Tensors) -> Recognised | None:
    inner = tensors.unwrapped(_TEXT_WRAPPERS)
    if inner.has("vision_model.embeddings.") and not inner.has("text_model.embeddings."):
        return None
    t5 = "encoder.block.0.layer.0.SelfAttention.q.weight"
    if t5 in inner.shapes:
        bias = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
        name = "UMT5" if bias in inner.shapes else "T5"
        return Recognised(_TEXT, kind=f"{name}-XXL" if inner.size(t5, 1) == 4096 else name)
    for layers, token in (
        ("text_model.encoder.layers.", "text_model.embeddings.token_embedding.weight"),
        ("encoder.layers.", "embeddings.token_embedding.weight"),
        ("transformer.resblocks.", "token_embedding.weight"),
    ):
        if inner.has_all((layers, token)):
            return _clip_text(inner, layers, token)
    language = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.")
    if inner.has_all(language) or inner.has("model.language_model.embed_tokens.weight"):
        return Recognised(None, kind="language model")
    return None


def _clip_text(inner: Tensors, layers: str, token: str) -> Recognised:
    kind = _CLIP_KINDS.get((inner.size(token, 1), inner.count(layers)), "CLIP")
    if inner.has_any(("vision_model.", "visual.")):
        kind = f"{kind}, text and images"
    return Recognised(_TEXT, kind=kind)


def _image_encoder(tensors: Tensors) -> Recognised | None:
    inner = tensors.unwrapped(("image_encoder.", "model."))
    if inner.has("vision_model.encoder.layers."):
        if inner.has("vision_model.head."):
            return Recognised(_IMAGE, kind="SigLIP")
        width = inner.size("vision_model.embeddings.class_embedding", 0)
        layers = inner.count("vision_model.encoder.layers.")
        return Recognised(_IMAGE, kind=_VISION_KINDS.get((width, layers), "CLIP"))
    if inner.has_all(("visual.transformer.resblocks.", "visual.conv1.")):
        width = inner.size("visual.class_embedding", 0)
        layers = inner.count("visual.transformer.resblocks.")
        return Recognised(_IMAGE, kind=_VISION_KINDS.get((width, layers), "CLIP"))
    if inner.has_all(("embeddings.patch_embeddings.", "encoder.layer.0.attention.")):
        return Recognised(_IMAGE, kind="DINOv2")
    return None


_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_ROWS = {(768,), (1024,), (1280,)}
_WORD = re.compile(r"[!-~]{1,64}")


def _embedding(tensors: Tensors) -> Recognised | None:
    """A textual inversion is nothing but rows for the token embeddings."""
    shapes = tensors.shapes
    if not shapes or not all(1 <= len(shape) <= 2 for shape in shapes.values()):
        return None
    names = set(shapes)
    if any(names <= set(pair) for pair in _PAIRS):
        pair = next(pair for pair in _PAIRS if names <= set(pair))
        first, second = pair
        if second in names:
            both = marked(ModelType.EMBEDDING, tensors)
            return Recognised(ModelType.EMBEDDING, both, "textual inversion")
        return Recognised(
            ModelType.EMBEDDING, of_embedding_width(shapes[first][-1]), "textual inversion"
        )
    (name, shape), *others = shapes.items()
    if others or (shape[-1:] not in _ROWS and name != "emb_params"):
        return None
    architecture = marked(ModelType.EMBEDDING, tensors) or of_embedding_width(shape[-1])
    # In diffusers' files the tensor is called as the word that it stands for.
    word = name not in {"emb_params", "emb", "weight"} and bool(_WORD.fullmatch(name))
    return Recognised(
        ModelType.EMBEDDING,
        architecture,
        "textual inversion",
        trigger_words=(name,) if word else (),
    )
