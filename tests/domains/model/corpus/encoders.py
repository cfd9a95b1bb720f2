"""VAEs, text and image encoders, embeddings, classifiers and modules, each alone in a file.

Layouts from diffusers and transformers; TAESD's from madebyollin/taesd (`taesd.py`), A1111's
embedding from its `textual_inversion.py`, SDXL's from kohya-ss/sd-scripts.
"""

from __future__ import annotations

from collections.abc import Iterator

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
VAE, TEXT, IMAGE = ModelType.VAE, ModelType.TEXT_ENCODER, ModelType.IMAGE_ENCODER
EMBEDDING, CLASSIFIER = ModelType.EMBEDDING, ModelType.SAFETY_CLASSIFIER


def samples() -> Iterator[tuple[str, Sample]]:
    """Every kind by a name for tests."""
    yield from _vaes()
    yield from _texts()
    yield from _images()
    yield from _embeddings()
    yield "motion-module-diffusers", Sample(part("motion"), None, kind="motion module")
    motion = {
        f"down_blocks.{block}.motion_modules.{layer}.temporal_transformer.norm.weight": (320,)
        for block in range(4)
        for layer in range(2)
    } | {
        f"up_blocks.{block}.motion_modules.{layer}.temporal_transformer.norm.weight": (320,)
        for block in range(4)
        for layer in range(3)
    }
    yield "motion-module", Sample(motion, None, kind="motion module")


def _vaes() -> Iterator[tuple[str, Sample]]:
    original = part("vae-original")
    yield "vae", Sample(part("vae"), VAE)
    yield "vae-original", Sample(original, VAE)
    averaged = {f"model_ema.{name.replace('.', '')}": shape for name, shape in original.items()}
    yield "vae-ema", Sample(original | averaged | {"model_ema.decay": ()}, VAE)
    loss = {"loss.logvar": (), "loss.perceptual_loss.net.slice1.0.weight": (64, 3, 3, 3)}
    yield "vae-loss", Sample(original | loss, VAE)
    yield "vae-cut-out", Sample(part("vae-original", "first_stage_model."), VAE)
    old = {
        name.replace("to_q.", "query.")
        .replace("to_k.", "key.")
        .replace("to_v.", "value.")
        .replace("to_out.0.", "proj_attn."): shape
        for name, shape in part("vae").items()
    }
    yield "vae-old-attention", Sample(old, VAE)
    yield (
        "vae-16",
        Sample(part("vae-16"), VAE, kind="16 channels", told={"family": "SD3 or Flux"}),
    )
    yield "vae-tiny", Sample(part("vae-tiny"), VAE, kind="TAESD")
    decoder = {"1.weight": (64, 4, 3, 3), "1.bias": (64,), "19.weight": (3, 64, 3, 3)}
    for block in (3, 4, 5, 8, 9, 10):
        for layer in (0, 2, 4):
            decoder[f"{block}.conv.{layer}.weight"] = (64, 64, 3, 3)
    yield "vae-tiny-decoder", Sample(decoder, VAE, kind="TAESD decoder")


def _texts() -> Iterator[tuple[str, Sample]]:
    yield "clip-l", Sample(part("clip-l"), TEXT, kind="CLIP-L")
    extras: Shapes = {"text_projection.weight": (768, 768), "logit_scale": ()}
    extras["text_model.embeddings.position_ids"] = (1, 77)
    yield "clip-l-extras", Sample(part("clip-l") | extras, TEXT, kind="CLIP-L")
    whole = part("clip-l") | part("vision-l") | extras  # openai/clip-vit-large-patch14
    yield "clip-l-whole", Sample(whole, TEXT, kind="CLIP-L, text and images")
    for size in ("h", "g"):
        kind = f"OpenCLIP-{size.upper()}"
        yield f"openclip-{size}", Sample(part(f"openclip-{size}"), TEXT, kind=kind)
        original = part(f"openclip-{size}-original")
        yield f"openclip-{size}-original", Sample(original, TEXT, kind=kind)
    sd2 = {  # SD 2.x's in diffusers lacks the last layer
        name: shape
        for name, shape in part("openclip-h").items()
        if ".layers.23." not in name and name != "text_projection.weight"
    }
    yield "openclip-h-23", Sample(sd2, TEXT, kind="OpenCLIP-H")
    yield "t5-xxl", Sample(part("t5-xxl"), TEXT, kind="T5-XXL")
    fp8 = dict.fromkeys(part("t5-xxl"), "F8_E4M3")
    yield (
        "t5-xxl-fp8",
        Sample(
            part("t5-xxl"), TEXT, kind="T5-XXL", told={"quantisation": "fp8"}, data_types=fp8
        ),
    )


def _images() -> Iterator[tuple[str, Sample]]:
    for size, kind in (("l", "ViT-L"), ("h", "ViT-H"), ("g", "ViT-bigG")):
        yield f"vision-{size}", Sample(part(f"vision-{size}"), IMAGE, kind=f"CLIP {kind}")
    checker = part("vision-l", "vision_model.")
    checker |= {
        "visual_projection.weight": (768, 1024),
        "concept_embeds": (17, 768),
        "concept_embeds_weights": (17,),
        "special_care_embeds": (3, 768),
        "special_care_embeds_weights": (3,),
    }
    yield "safety-checker", Sample(checker, CLASSIFIER, kind="CompVis safety checker")
    yield "vit-nsfw", Sample(part("vit-nsfw"), CLASSIFIER, kind="ViT classifier")


def _embeddings() -> Iterator[tuple[str, Sample]]:
    kind = "textual inversion"
    for name, shapes, architecture in (
        ("a1111-sd1", {"emb_params": (4, 768)}, SD1),
        ("a1111-sd2", {"emb_params": (4, 1024)}, SD2),
        ("sdxl", {"clip_l": (8, 768), "clip_g": (8, 1280)}, SDXL),
        ("sdxl-diffusers", {"text_encoders_0": (8, 768), "text_encoders_1": (8, 1280)}, SDXL),
    ):
        yield f"embedding-{name}", Sample(shapes, EMBEDDING, architecture, kind)
    for name, shape, architecture in (("sd1", (2, 768), SD1), ("sd2", (1024,), SD2)):
        word = {"trigger_words": ("<my-cat>",)}
        yield (
            f"embedding-diffusers-{name}",
            Sample({"<my-cat>": shape}, EMBEDDING, architecture, kind, word),
        )
