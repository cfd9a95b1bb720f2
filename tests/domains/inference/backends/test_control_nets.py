"""Pictures that follow control pictures are those of diffusers' ControlNet pipelines, bit for
bit; what does not go together is refused, and nothing of it is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image
from transformers import CLIPTextModel

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.clock import Clock
from domains.inference.backends.control import Control, ControlNet
from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.loader import Loader
from domains.inference.backends.wanted import WantedModel
from domains.inference.jobs import Companion, ControlPictures
from domains.inference.types import (
    ControlNetGuidance,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    LoraWeight,
    Scheduler,
    SchedulerSettings,
)
from domains.model.types import ModelType
from domains.picture.backends.control.preprocessing import control_picture
from domains.picture.types import (
    CannyOptions,
    ControlPreprocessor,
    PictureFile,
    PreparedPicture,
)
from domains.values import ModelPlace
from tests.domains.inference.backends.conftest import MODEL, own_share
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import hole
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_sd1 import PROMPT, SIZE, loaded, tiny_pipeline
from tests.fakes.jobs import Listener, changed
from tests.libraries import OLD_DIFFUSERS

CANNY = MODEL.parent / "emoji-canny"
EDGE = 64
SMALL = {"width": EDGE, "height": EDGE, "steps": 3}
FULL = pytest.mark.demonstration


def edges(seed: int = 0, edge: int = EDGE, height: int | None = None) -> Image.Image:
    """White lines on black."""
    turned = painting(edge, height or edge).rotate(37 * seed)
    return control_picture(turned, ControlPreprocessor(CannyOptions(20, 60)))


def saved(folder: Path, network: ControlNetModel) -> Path:
    """With numbers in the layers that training begins as zeros."""
    torch.manual_seed(5)
    for name, parameter in network.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond")):
            torch.nn.init.normal_(parameter, std=0.02)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def random_net(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet made of the demo checkpoint, with attention."""
    folder = tmp_path_factory.mktemp("nets") / "random"
    return saved(folder, ControlNetModel.from_unet(pipeline.unet))


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[Image.Image], PreparedPicture]:
    def call(image: Image.Image) -> PreparedPicture:
        data = image.convert("RGB").tobytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = tmp_path / f"{sha256}.rgb"
        path.write_bytes(data)
        return PreparedPicture(path, *image.size, sha256)

    return call


@pytest.fixture
def follow(draw: Any, file_of: Any) -> Callable[..., Any]:
    """Draw by ControlNets: each a path, its picture or pictures, and how it works."""

    def call(*nets: tuple[Path, Any, dict[str, Any]], **changes: Any) -> Any:
        return draw(**(SMALL | job_of(file_of, *nets) | changes))

    return call


def job_of(file_of: Any, *nets: tuple[Path, Any, dict[str, Any]]) -> dict[str, Any]:
    guidances, controls, companions = [], [], {}
    for path, images, how in nets:
        several = images if isinstance(images, list) else [images]
        mask = how.get("mask")
        masked = None if mask is None else file_of(mask)
        told = None if masked is None else PictureFile(masked.sha256, artifact=False)
        guidances.append(ControlNetGuidance(path.name, **(how | {"mask": told})))
        controls.append(ControlPictures(tuple(map(file_of, several)), masked))
        place = ModelPlace.of(path)
        companions[path.name] = Companion(path.name, ModelType.CONTROL_NET, place)
    return {
        "control_nets": tuple(guidances),
        "controls": tuple(controls),
        "companions": tuple(companions.values()),
    }


def network(path: Path, kind: Any = ControlNetModel) -> Any:
    found = kind.from_pretrained(path, torch_dtype=torch.float32, local_files_only=True)
    for parameter in found.parameters():
        # Mapped from a file it lies where the file has it, and how a tensor is aligned can
        # decide the last bit of a product.
        parameter.data = parameter.data.clone()
    return found


@pytest.fixture
def expected(pipeline: Any, work: Any) -> Callable[..., Any]:
    """Pixels and final latents of the reference pipelines."""

    def call(
        nets: list[Path],
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        kind: Any = StableDiffusionXLControlNetPipeline,
        **arguments: Any,
    ) -> Any:
        several = [network(path) for path in nets]
        # One after another: a further pipeline would put the parts of others aside.
        reference = kind(
            **pipeline.components, controlnet=several[0] if len(several) == 1 else several
        )
        reference.scheduler = getattr(diffusers, scheduler.value).from_config(
            pipeline.scheduler.config
        )
        settings = {"prompt": work.settings.prompt, "num_inference_steps": SMALL["steps"]}
        settings |= own_share(scheduler)
        if kind is StableDiffusionXLControlNetPipeline:
            settings |= {"width": EDGE, "height": EDGE}
        return drawn_by(reference, **(settings | arguments))

    return call


def drawn_by(reference: Any, **arguments: Any) -> Any:
    reference.set_progress_bar_config(disable=True)
    last: list[torch.Tensor] = []

    def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
        last[:] = [state["latents"].clone()]
        return state

    settings = {"guidance_scale": 6.0, "generator": torch.Generator("cpu").manual_seed(7)}
    images = reference(**(settings | arguments), callback_on_step_end=keep).images
    return np.asarray(images[0]), last[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param(
            {"conditioning_scale": 0.6, "start": 0.3, "end": 0.7},
            {
                "controlnet_conditioning_scale": 0.6,
                "control_guidance_start": 0.3,
                "control_guidance_end": 0.7,
            },
            id="scale and share",
        ),
        pytest.param({"guess_mode": True}, {"guess_mode": True}, id="guess"),
    ],
)
def test_one(follow, expected, random_net, ours, theirs) -> None:
    same(follow((random_net, edges(), ours)), expected([random_net], image=edges(), **theirs))


@FULL
def test_a_size_that_halves_badly(follow, expected, random_net) -> None:
    size = {"width": 136, "height": 72}
    control = edges(0, 136, 72)
    same(
        follow((random_net, control, {}), **size),
        expected([random_net], image=control, **size),
    )


@FULL
def test_a_file_alone_is_as_its_folder(follow, tmp_path) -> None:
    weights = CANNY / "diffusion_pytorch_model.safetensors"
    file = Path(shutil.copy(weights, tmp_path / "canny.safetensors"))
    folder = follow((CANNY, edges(), {}))
    assert torch.equal(follow((file, edges(), {})).latents[0], folder.latents[0])


@pytest.mark.parametrize("guess", [False, pytest.param(True, marks=FULL)])
def test_several_are_added_up_in_their_order(follow, expected, random_net, guess) -> None:
    nets = [random_net, CANNY, random_net]
    how = [
        {"conditioning_scale": 0.9, "end": 0.7, "guess_mode": guess},
        {"conditioning_scale": 1.3, "guess_mode": guess},
        {"conditioning_scale": 0.4, "start": 0.3, "guess_mode": guess},
    ]
    drawn = follow(*((net, edges(k), how[k]) for k, net in enumerate(nets)))
    wanted = expected(
        nets,
        image=[edges(k) for k in range(3)],
        controlnet_conditioning_scale=[0.9, 1.3, 0.4],
        control_guidance_start=[0.0, 0.0, 0.3],
        control_guidance_end=[0.7, 1.0, 1.0],
        guess_mode=guess,
    )
    same(drawn, wanted)


def test_without_guidance(follow, expected, random_net) -> None:
    drawn = follow((random_net, edges(), {}), guidance=GuidanceSettings(1.0))
    same(drawn, expected([random_net], image=edges(), guidance_scale=1.0))


def test_from_a_picture(follow, expected, random_net, file_of) -> None:
    picture = painting(EDGE, EDGE)
    drawn = follow(
        (random_net, edges(), {"end": 0.5}),
        (CANNY, edges(1), {}),
        picture=file_of(picture),
        image_to_image=ImageToImage(0.7),
        steps=4,
    )
    wanted = expected(
        [random_net, CANNY],
        kind=StableDiffusionXLControlNetImg2ImgPipeline,
        image=picture,
        control_image=[edges(), edges(1)],
        strength=0.7,
        num_inference_steps=4,
        control_guidance_end=[0.5, 1.0],
        controlnet_conditioning_scale=[1.0, 1.0],
    )
    same(drawn, wanted)


@FULL
def test_in_a_hole(follow, expected, random_net, file_of, tmp_path) -> None:
    picture, mask = painting(EDGE, EDGE), hole(EDGE)
    data = mask.tobytes()
    (tmp_path / "mask").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    drawn = follow(
        (random_net, edges(), {}),
        picture=file_of(picture),
        mask=PreparedPicture(tmp_path / "mask", EDGE, EDGE, sha256, True),
        inpainting=Inpainting(strength=0.6, mask_blur_pixels=0),
        steps=4,
    )
    wanted = expected(
        [random_net],
        kind=StableDiffusionXLControlNetInpaintPipeline,
        image=picture,
        mask_image=mask,
        control_image=edges(),
        strength=0.6,
        num_inference_steps=4,
        width=EDGE,
        height=EDGE,
    )
    same(drawn, wanted)


@FULL
@pytest.mark.parametrize("scheduler", Scheduler)
@pytest.mark.parametrize("guess", [False, True])
def test_every_scheduler(follow, expected, random_net, scheduler, guess) -> None:
    how = {"start": 0.2, "end": 0.8, "guess_mode": guess}
    drawn = follow((random_net, edges(), how), steps=5, scheduler=SchedulerSettings(scheduler))
    wanted = expected(
        [random_net],
        scheduler,
        image=edges(),
        num_inference_steps=5,
        control_guidance_start=0.2,
        control_guidance_end=0.8,
        guess_mode=guess,
    )
    same(drawn, wanted)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of SD 1.x and a ControlNet for it."""
    root = tmp_path_factory.mktemp("models")
    whole = tiny_pipeline()
    whole.save_pretrained(root / "tiny-sd1")
    return root / "tiny-sd1", saved(root / "tiny-net", ControlNetModel.from_unet(whole.unet))


@pytest.fixture
def old_text_model(monkeypatch: pytest.MonkeyPatch) -> None:
    if not OLD_DIFFUSERS:  # with it came a transformers that has one
        # Where the pipeline looks for the last norm, as older versions of transformers had it.
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)


@pytest.mark.parametrize("strength", [None, pytest.param(0.8, marks=FULL)])
def test_sd1(follow, sd1, file_of, old_text_model, strength) -> None:
    folder, net = sd1
    size = {"width": SIZE, "height": SIZE}
    ours: dict[str, Any] = {"model_id": folder.name, "model_path": folder, "prompt": PROMPT}
    theirs: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 3}
    kind: Any = StableDiffusionControlNetPipeline
    if strength is None:
        theirs |= size | {"image": edges(edge=SIZE)}
    else:
        kind = StableDiffusionControlNetImg2ImgPipeline
        picture = painting(SIZE, SIZE)
        ours |= {"picture": file_of(picture), "image_to_image": ImageToImage(strength)}
        theirs |= {
            "image": picture,
            "control_image": edges(edge=SIZE),
            "strength": strength,
            "controlnet_conditioning_scale": 1.0,
        }
    drawn = follow((net, edges(edge=SIZE), {}), **(ours | size))
    reference = kind(
        **loaded(folder).components, controlnet=network(net), requires_safety_checker=False
    )
    same(drawn, drawn_by(reference, **theirs))


@FULL
def test_each_picture_may_have_its_own(follow, random_net) -> None:
    together = follow((random_net, [edges(1), edges(2)], {}), seeds=(7, 8))
    for index, seed in enumerate((7, 8)):
        alone = follow((random_net, edges(index + 1), {}), seeds=(seed,))
        assert torch.equal(together.latents[index], alone.latents[0])


@FULL
def test_a_mask_says_where(follow, draw, random_net) -> None:
    white, black = (Image.new("RGB", (EDGE, EDGE), name) for name in ("white", "black"))
    everywhere = follow((random_net, edges(), {}))
    plain = draw(**SMALL)
    assert torch.equal(
        follow((random_net, edges(), {"mask": white})).latents[0], everywhere.latents[0]
    )
    assert torch.equal(
        follow((random_net, edges(), {"mask": black})).latents[0], plain.latents[0]
    )


def test_half_a_mask_is_half_of_each_residual(sd1, file_of) -> None:
    left = Image.new("RGB", (SIZE, SIZE), "black")
    left.paste("#808080", (0, 0, SIZE // 2, SIZE))
    wanted = WantedModel("net", ModelPlace.of(sd1[1]), type=ModelType.CONTROL_NET)
    loader = Loader(torch.device("cpu"), lambda: None)
    net = loader.ready_network(wanted, Listener(), Clock()).model
    sample, text = torch.randn(2, 4, SIZE // 8, SIZE // 8), torch.randn(2, 77, 768)
    found = []
    for mask in (None, file_of(left)):
        pictures = ControlPictures((file_of(edges(edge=SIZE)),), mask)
        one = ControlNet(net, ControlNetGuidance("net"), pictures)
        control = Control((one,), 0, torch.float32, lambda: None)
        with torch.no_grad():
            found.append(control(0, 1, sample, torch.tensor(500), Conditioning(text)))
    whole, masked = found
    grey = 128 / 255
    blocks = [
        *zip(*(each["down_block_additional_residuals"] for each in found), strict=True),
        (whole["mid_block_additional_residual"], masked["mid_block_additional_residual"]),
    ]
    assert {before.shape[-1] for before, _ in blocks} == {8, 4, 2, 1}
    for before, after in blocks:
        edge = before.shape[-1]
        # One pixel for all has both halves under it.
        share = torch.tensor([grey] * (edge // 2) + [0.0] * (edge // 2) or [grey / 2])
        assert before.abs().max() > 0
        torch.testing.assert_close(after, before * share, rtol=1e-5, atol=1e-7)


@FULL
def test_no_share_of_the_steps_is_no_control(follow, draw) -> None:
    plain = draw(**SMALL)
    for how in ({"conditioning_scale": 0.0}, {"start": 0.4, "end": 0.5}):
        assert torch.equal(follow((CANNY, edges(), how)).latents[0], plain.latents[0])


def test_with_a_lora(follow, draw, random_net, engine, file_of, work) -> None:
    """The LoRA is the UNet's alone; each changes the picture, and none stays."""
    lora = Companion(
        "line-art", ModelType.LORA, ModelPlace.of(MODEL.parent / "line-art.safetensors")
    )
    weight = LoraWeight("line-art", 1.0, 1.0)
    before = draw(**SMALL)
    controlled = follow((random_net, edges(), {}))
    job = job_of(file_of, (random_net, edges(), {}))
    job["companions"] += (lora,)
    both = draw(**SMALL, **job, loras=(weight,))
    styled = draw(**SMALL, companions=(lora,), loras=(weight,))
    seen = [before, controlled, both, styled]
    assert len({one.images[0].data for one in seen}) == len(seen)
    assert follow((random_net, edges(), {})).images[0].data == controlled.images[0].data
    assert draw(**SMALL).images[0].data == before.images[0].data


@FULL
def test_a_stop_is_looked_for_before_every_control_net(
    engine, work, file_of, random_net
) -> None:
    counts = []
    for nets in (1, 3):
        job = changed(work, **SMALL, **job_of(file_of, *[(random_net, edges(), {})] * nets))
        asked: list[int] = []
        look = partial(asked.append, nets)
        engine.generate(job, Listener())  # what is loaded here is not loaded again
        engine.generate(job, Listener(look))
        counts.append(len(asked))
    assert counts[1] - counts[0] == 2 * SMALL["steps"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cross_attention_dim": 64}, "64 as its numbers in a token"),
        pytest.param({"block_out_channels": (64, 128, 256)}, "channels of blocks", marks=FULL),
        pytest.param({"conditioning_channels": 1}, "channels of control pictures", marks=FULL),
        pytest.param(
            {"conditioning_embedding_out_channels": (16, 32, 64)},
            "edge of a latent",
            marks=FULL,
        ),
    ],
)
def test_one_for_another_unet_is_refused(
    follow, draw, random_net, tmp_path, changes, words
) -> None:
    before = draw(**SMALL)
    config = dict(network(CANNY).config) | changes
    folder = tmp_path / "other-net"
    ControlNetModel.from_config(config).save_pretrained(folder)
    with pytest.raises(FailedPrecondition) as caught:
        follow((CANNY, edges(), {}), (folder, edges(), {}))
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert words in caught.value.message
    assert "emoji-xl" in caught.value.message
    assert caught.value.metadata == {
        "model_id": "other-net",
        "field": "settings.control_nets[1].model_id",
    }
    assert draw(**SMALL).images[0].data == before.images[0].data


@FULL
def test_means_over_the_picture_are_for_the_conditional_half(
    follow, expected, random_net, tmp_path
) -> None:
    """Networks that were trained so work as in guess mode without being asked."""
    folder = tmp_path / "pooled"
    pooled: Any = network(random_net)
    pooled.register_to_config(global_pool_conditions=True)
    pooled.save_pretrained(folder)
    same(follow((folder, edges(), {})), expected([folder], image=edges()))


EMOJI = MODEL.parents[1] / "data" / "fluent-emoji"


def named(name: str) -> Image.Image:
    """The emoji of that name, with its alpha."""
    listed = json.loads((EMOJI / "captions.json").read_text("utf-8"))
    file = next(each["image"] for each in listed if each["name"] == name)
    return Image.open(EMOJI / file).convert("RGBA")


def centre(pixels: Any) -> Any:
    """Of what is unlike the background, in pixels."""
    rims = np.concatenate([pixels[:8].reshape(-1, 3), pixels[-8:].reshape(-1, 3)])
    unlike = np.abs(pixels - np.median(rims, axis=0)).sum(axis=-1) > 90
    return np.argwhere(unlike).mean(axis=0)


@FULL
@pytest.mark.parametrize(("name", "place"), [("red apple", (150, 30)), ("dog face", (20, 140))])
def test_a_small_emoji_goes_where_its_edges_are(follow, draw, name, place) -> None:
    emoji = named(name).resize((80, 80), Image.Resampling.LANCZOS)
    scene = Image.new("RGB", (256, 256), "#3366cc")
    scene.paste(emoji, place, emoji)
    control = control_picture(scene, ControlPreprocessor(CannyOptions()))
    how = {"prompt": f"a small {name} on a blue background", "steps": 12}
    how |= {"width": 256, "height": 256}

    wanted = centre(np.asarray(scene).astype(float))
    followed = centre(follow((CANNY, control, {}), **how).pixels[0].astype(float))
    free = centre(draw(**how).pixels[0].astype(float))

    assert np.linalg.norm(followed - wanted) < 4
    assert np.linalg.norm(free - wanted) > 20
