"""Pictures that follow image prompts are those of diffusers' IP-Adapters, bit for bit; what
does not go together is refused, and nothing of it is left behind."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLControlNetImg2ImgPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from domains.device.jobs import ReleaseJob
from domains.errors import FailedPrecondition, Reason
from domains.inference.backends import drawing
from domains.inference.backends.clip_picture import to_clip
from domains.inference.backends.engine import Engine
from domains.inference.backends.image_attention import ImageAttention
from domains.inference.backends.sharing_rules import sharing_key
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.jobs import Companion, GenerationJob, ImagePromptPictures
from domains.inference.types import (
    GuidanceSettings,
    ImagePrompt,
    ImageToImage,
    LoraWeight,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.jobs import LoadJob
from domains.model.types import ModelType
from domains.picture.types import PreparedPicture
from domains.values import ModelPart, ModelPlace, PartDataType, TensorDataType
from tests.domains.inference.backends.conftest import APPLE, MODEL
from tests.domains.inference.backends.test_control_nets import (
    CANNY,
    drawn_by,
    edges,
    file_of,
    job_of,
    network,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_step_graphs import Replaying
from tests.domains.model.image_prompts import (
    FULL_FACE,
    KINDS,
    PIXELS,
    PLAIN,
    PLUS,
    adapter_file,
    encoder_folder,
)
from tests.fakes.jobs import Listener, changed
from tests.fakes.tapes import Taping

__all__ = ["file_of"]  # a fixture
EDGE = 64
SMALL = {"width": EDGE, "height": EDGE, "steps": 3}
REFERENCE = {"width": EDGE, "height": EDGE, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, and an adapter of each kind."""
    folder = tmp_path_factory.mktemp("image-prompts")
    encoder_folder(folder / "encoder")
    encoder_folder(folder / "wide", hidden_size=64, projection_dim=64, intermediate_size=128)
    for kind in KINDS:
        adapter_file(folder / f"{kind}.safetensors", kind)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., ImagePromptPictures]:
    """Two pictures of other sizes than is drawn, prepared as the front does."""

    def prepared(name: str, picture: Image.Image) -> PreparedPicture:
        path, data = tmp_path / name, picture.tobytes()
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return PreparedPicture(path, *picture.size, sha256, grey=picture.mode == "L")

    def make(count: int = 1, mask: Image.Image | None = None) -> ImagePromptPictures:
        images = tuple(prepared(f"{k}", one) for k, one in enumerate(shown()[:count]))
        return ImagePromptPictures(images, () if mask is None else (prepared("mask", mask),))

    return make


def shown() -> list[Image.Image]:
    """What the prompts show."""
    return [painting(300, 240), painting(90, 130).rotate(90)]


def left_half() -> Image.Image:
    """White on the left, with an edge that no layer has in the middle of a place."""
    mask = np.zeros((EDGE, EDGE), np.uint8)
    mask[:, : EDGE // 2] = 255
    return Image.fromarray(mask)


def asking(
    models: Path, *prompts: tuple[str, ImagePromptPictures, dict[str, Any]], encoder: str = ""
) -> dict[str, Any]:
    """What a job needs for prompts by kinds of adapters, with their pictures and shares."""
    encoder = encoder or "encoder"
    kinds = dict.fromkeys(kind for kind, _, _ in prompts)
    adapters = tuple(
        Companion(
            kind,
            ModelType.IMAGE_PROMPT_ADAPTER,
            ModelPlace.of(models / f"{kind}.safetensors"),
        )
        for kind in kinds
    )
    reader = Companion(encoder, ModelType.IMAGE_ENCODER, ModelPlace.of(models / encoder))
    return {
        "image_prompts": tuple(
            ImagePrompt(kind, encoder, **share) for kind, _, share in prompts
        ),
        "image_prompt_pictures": tuple(one for _, one, _ in prompts),
        "companions": (*adapters, reader),
    }


@pytest.fixture
def adapted(pipeline: Any, models: Path) -> Iterator[Callable[..., None]]:
    """Have the reference pipeline read pictures, by adapters of these kinds."""
    own = pipeline.image_encoder, pipeline.feature_extractor

    def adapt(*kinds: str, scale: Any = 1.0) -> None:
        encoder: Any = CLIPVisionModelWithProjection
        pipeline.image_encoder = encoder.from_pretrained(models / "encoder").eval()
        size = {"height": PIXELS, "width": PIXELS}
        pipeline.feature_extractor = CLIPImageProcessorPil(
            size={"shortest_edge": PIXELS}, crop_size=size
        )
        states = []
        for kind in kinds:
            tensors = load_file(models / f"{kind}.safetensors")
            parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
            for name, tensor in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = tensor
            states.append(parts)
        pipeline.unet._load_ip_adapter_weights(states)
        pipeline.set_ip_adapter_scale(scale)

    yield adapt
    pipeline.unload_ip_adapter()
    pipeline.image_encoder, pipeline.feature_extractor = own


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [6.0, 1.0], ids=["guided", "unguided"])
def test_every_kind(draw, reference, adapted, models, pictures, kind, scale) -> None:
    ours = draw(
        **asking(models, (kind, pictures(), {"scale": 0.7})),
        **SMALL,
        guidance=GuidanceSettings(scale),
    )
    plain = draw(**SMALL, guidance=GuidanceSettings(scale))
    adapted(kind, scale=0.7)
    theirs = reference(ip_adapter_image=shown()[0], guidance_scale=scale, **REFERENCE)
    same(ours, theirs)
    assert not torch.equal(ours.latents[0], plain.latents[0])


def test_several_pictures_of_one_prompt_and_several_prompts(
    draw, reference, adapted, models, pictures
) -> None:
    ours = draw(
        **asking(
            models, (PLUS, pictures(2), {"scale": 0.4}), (PLAIN, pictures(1), {"scale": 1.2})
        ),
        **SMALL,
    )
    adapted(PLUS, PLAIN, scale=[0.4, 1.2])
    same(ours, reference(ip_adapter_image=[shown(), shown()[0]], **REFERENCE))


def test_a_mask_says_where_it_works(draw, reference, adapted, models, pictures) -> None:
    ours = draw(**asking(models, (PLAIN, pictures(1, left_half()), {})), **SMALL)
    adapted(PLAIN)
    mask = IPAdapterMaskProcessor().preprocess(left_half(), height=EDGE, width=EDGE)
    theirs = reference(
        ip_adapter_image=shown()[0],
        cross_attention_kwargs={"ip_adapter_masks": [mask]},
        **REFERENCE,
    )
    same(ours, theirs)


def test_a_mask_of_a_size_whose_places_are_no_square(draw, models, pictures) -> None:
    """The sizes that layers look at are rounded up, each from the one before."""
    size = {"width": 72, "height": 104, "steps": 1}
    white = Image.new("L", (72, 104), "white")
    masked = draw(**asking(models, (PLAIN, pictures(1, white), {})), **size)
    everywhere = draw(**asking(models, (PLAIN, pictures(), {})), **size)
    nowhere = draw(
        **asking(models, (PLAIN, pictures(1, Image.new("L", (72, 104))), {})), **size
    )
    # White is one but for rounding, as it is brought to other sizes.
    assert torch.allclose(masked.latents[0], everywhere.latents[0], atol=1e-4)
    assert not torch.allclose(masked.latents[0], nowhere.latents[0], atol=1e-4)
    assert torch.equal(nowhere.latents[0], draw(**size).latents[0])


def test_only_its_share_of_the_steps(draw, models, pictures) -> None:
    plain = draw(**SMALL)
    for share in ({"end": 0.0}, {"start": 1.0}, {"scale": 0.0}):
        other = draw(**asking(models, (PLAIN, pictures(), share)), **SMALL)
        assert torch.equal(other.latents[0], plain.latents[0]), share
    late = draw(**asking(models, (PLAIN, pictures(), {"start": 0.5})), **SMALL)
    whole = draw(**asking(models, (PLAIN, pictures(), {})), **SMALL)
    assert not torch.equal(late.latents[0], plain.latents[0])
    assert not torch.equal(late.latents[0], whole.latents[0])


def test_beside_a_lora_and_with_another_sampler(
    draw, reference, pipeline, adapted, models, pictures
) -> None:
    lines = MODEL.parent / "line-art.safetensors"
    asked = asking(models, (FULL_FACE, pictures(), {"scale": 0.5}))
    lora = Companion("line-art", ModelType.LORA, ModelPlace.of(lines))
    asked["companions"] += (lora,)
    ours = draw(
        **asked,
        **SMALL,
        loras=(LoraWeight("line-art", 0.8, 0.8),),
        scheduler=SchedulerSettings(Scheduler.DPM_SOLVER_MULTISTEP),
    )
    adapted(FULL_FACE, scale=0.5)
    pipeline.load_lora_weights(str(lines.parent), weight_name=lines.name)
    try:
        pipeline.set_adapters("default_0", 0.8)
        theirs = reference(
            Scheduler.DPM_SOLVER_MULTISTEP, ip_adapter_image=shown()[0], **REFERENCE
        )
    finally:
        pipeline.unload_lora_weights()
        for network in (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2):
            network.requires_grad_(True)
    same(ours, theirs)


def test_beside_a_control_net_and_from_a_picture(
    draw: Any, pipeline: Any, adapted: Any, models: Path, pictures: Any, file_of: Any
) -> None:
    start, lines = painting(EDGE, EDGE), edges()
    asked = asking(models, (PLUS, pictures(), {"scale": 0.9}))
    controlled = job_of(file_of, (CANNY, lines, {"conditioning_scale": 0.8}))
    asked["companions"] += controlled.pop("companions")
    ours = draw(
        **asked,
        **controlled,
        **SMALL,
        picture=file_of(start),
        image_to_image=ImageToImage(0.7),
    )
    adapted(PLUS, scale=0.9)
    reference: Any = StableDiffusionXLControlNetImg2ImgPipeline(
        **pipeline.components, controlnet=network(CANNY)
    )
    theirs = drawn_by(
        reference,
        prompt=APPLE,
        image=start,
        control_image=lines,
        controlnet_conditioning_scale=0.8,
        strength=0.7,
        num_inference_steps=3,
        ip_adapter_image=shown()[0],
    )
    same(ours, theirs)


def test_the_next_request_knows_nothing_of_it(draw, engine, models, pictures) -> None:
    before = draw(**SMALL)
    processors = dict(engine._model.networks["unet"].attn_processors)
    draw(**asking(models, (PLUS, pictures(), {})), **SMALL)
    assert dict(engine._model.networks["unet"].attn_processors) == processors
    assert torch.equal(draw(**SMALL).latents[0], before.latents[0])


def test_the_same_after_the_adapter_was_let_go(draw, engine, models, pictures) -> None:
    first = draw(**asking(models, (PLUS, pictures(), {})), **SMALL)
    held = {part.model_id: part.component for part in engine.held()}
    assert held["plus"] == "image_prompt"
    assert held["encoder"] == "image_encoder"
    engine.release(ReleaseJob(("plus", "encoder")), Listener())
    again = draw(**asking(models, (PLUS, pictures(), {})), **SMALL)
    assert torch.equal(again.latents[0], first.latents[0])


def test_a_job_with_image_prompts_shares_no_passes(
    work: GenerationJob, models: Path, pictures: Callable[..., ImagePromptPictures]
) -> None:
    assert sharing_key(work) is not None
    assert sharing_key(changed(work, **asking(models, (PLAIN, pictures(), {})))) is None


def test_an_encoder_of_another_width_is_refused_by_name(draw, models, pictures) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        draw(**asking(models, (PLAIN, pictures(), {}), encoder="wide"), **SMALL)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert caught.value.metadata["field"] == "settings.image_prompts[0].image_encoder_model_id"
    assert "wide" in caught.value.message
    assert "plain" in caught.value.message


def test_an_adapter_for_other_layers_is_refused_by_name(
    draw, models, pictures, tmp_path: Path
) -> None:
    tensors = load_file(models / "plain.safetensors")
    layers = [name for name in tensors if name.startswith("ip_adapter.1.")]
    save_file(
        {name: one for name, one in tensors.items() if name not in layers},
        tmp_path / "plain.safetensors",
    )
    encoder_folder(tmp_path / "encoder")
    with pytest.raises(FailedPrecondition) as caught:
        draw(**asking(tmp_path, (PLAIN, pictures(), {})), **SMALL)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert caught.value.metadata["field"] == "settings.image_prompts[0].model_id"
    assert "emoji-xl" in caught.value.message


@pytest.mark.parametrize("size", [(300, 240), (90, 231), (224, 224), (1000, 31)])
def test_pictures_are_what_clip_takes(size: tuple[int, int]) -> None:
    picture = painting(*size)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}
    )
    wanted = processor(picture, return_tensors="pt").pixel_values
    assert torch.equal(to_clip(np.asarray(picture), PIXELS), wanted)


def test_in_float32_where_a_lower_type_overflows(
    work: GenerationJob, models: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's layers go along, and back."""
    own, finite = Engine("cpu"), drawing.finite
    half = (PartDataType(ModelPart.DENOISER, TensorDataType.BFLOAT16),)
    own.load(LoadJob("emoji-xl", work.place, data_types=half), Listener())
    computed: list[torch.dtype] = []

    def overflows(latents: torch.Tensor) -> bool:
        computed.append(own._model.unet_numerics.data_type)
        return finite(latents) and computed[-1] is torch.float32

    monkeypatch.setattr(drawing, "finite", overflows)
    asked = asking(models, (PLAIN, pictures(), {}))
    job = changed(work, **asked, **SMALL, precision=PrecisionMode.OPEN)
    report = own.generate(job, Listener())

    assert computed == [torch.bfloat16]
    assert [one.part for one in report.degradations] == [ModelPart.DENOISER]
    layers = own._model.networks["unet"].attn_processors.values()
    assert not any(isinstance(layer, ImageAttention) for layer in layers)


def test_recorded_steps_know_adapters_and_strengths(
    draw: Any, engine: Engine, models: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a recorder for the processor, whose replays compute anew from the same places."""

    def asked(kind: str, count: int, scale: float) -> dict[str, Any]:
        return {**asking(models, (kind, pictures(count), {"scale": scale})), **SMALL}

    work = [
        dict(SMALL),
        asked(PLAIN, 1, 0.7),
        asked(PLAIN, 1, 0.7),
        asked(PLAIN, 1, 0.2),
        asked(FULL_FACE, 1, 0.7),
        dict(SMALL),
        asked(PLAIN, 1, 0.7),
    ]
    plain = [draw(**each).latents[0] for each in work]
    recorder, model = Replaying(), engine._model
    assert model is not None
    monkeypatch.setattr(model, "graphs", StepGraphs(recorder, torch.device("cpu")))
    told = []
    for each, wanted in zip(work, plain, strict=True):
        found = draw(**each)
        assert torch.equal(found.latents[0], wanted)
        assert found.report.computed.recorded == (ModelPart.DENOISER,)
        told.append(recorder.recorded)

    assert told == [1, 2, 2, 3, 4, 4, 4]
    assert recorder.let_go_of == 1  # at the beginning


def test_recorded_steps_know_which_prompt_has_which_adapter(
    draw: Any, engine: Engine, tmp_path: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By operations on the memory that was recorded: nothing is looked up anew."""
    encoder_folder(tmp_path / "encoder")
    for seed, name in enumerate("AB"):
        adapter_file(tmp_path / f"{name}.safetensors", PLAIN, seed)
    work = [
        {**asking(tmp_path, *((name, pictures(), {}) for name in names)), **SMALL}
        for names in ("AAB", "ABB", "ABA", "BAA", "AAB")
    ]
    plain = [draw(**each).latents[0] for each in work]
    assert len({each.numpy().tobytes() for each in plain}) == 4
    recorder, model = Taping(), engine._model
    assert model is not None
    monkeypatch.setattr(model, "graphs", StepGraphs(recorder, torch.device("cpu")))
    told = []
    for each, wanted in zip(work, plain, strict=True):
        assert torch.equal(draw(**each).latents[0], wanted)
        told.append(recorder.recorded)

    assert told == [1, 2, 3, 4, 4]


def test_recordings_hold_on_to_no_adapter(
    draw: Any, engine: Engine, tmp_path: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of its own: errors that other tests have kept may hold on to what those loaded.
    adapter_file(tmp_path / "plain.safetensors", PLAIN)
    encoder_folder(tmp_path / "encoder")
    job = {**asking(tmp_path, (PLAIN, pictures(), {})), **SMALL}
    first = draw(**job)
    model = engine._model
    assert model is not None
    monkeypatch.setattr(model, "graphs", StepGraphs(Replaying(), torch.device("cpu")))
    assert torch.equal(draw(**job).latents[0], first.latents[0])
    adapter: Any = engine._loader.models.at(ModelPlace.of(tmp_path / "plain.safetensors"))
    weight = weakref.ref(adapter.module.to_keys[0].weight)
    del adapter
    engine.release(ReleaseJob(("plain",)), Listener())
    gc.collect()

    assert weight() is None
    assert model.graphs.count == 1
    assert torch.equal(draw(**job).latents[0], first.latents[0])
    assert model.graphs.count == 2  # another one, though it is the same
