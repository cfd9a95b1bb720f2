"""What the options of `deviceops generate` make of a request."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    finishing_pb2,
    generation_pb2,
    inference_pb2,
    sampling_pb2,
    session_pb2,
)
from tests.server.cli.conftest import Run
from tests.server.cli.messages import (
    png,
    whole,
)
from tests.server.cli.scripted import ScriptedServer


def test_every_option_reaches_its_field(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """As the contract has it."""
    scripted.on_generate = lambda request, context: whole(png())
    request_id = "8f14e45f-ceea-467f-a8f6-3b0f1d2c4e5a"

    against(
        *(
            "generate",
            "a (cat)",
            "-n",
            "dog",
            "--weighted",
            "--embedding",
            "far",
            "-m",
            "emoji-xl",
            "-d",
            "cpu:0",
        ),
        *("--refiner", "fine", "--refiner-switch", 0.7, "--refiner-mode", "image-to-image"),
        *("--width", 256, "--height", 512, "--steps", 12, "--guidance", 6.5),
        *("--guidance-rescale", 0.5, "--seeds", "3,4", "--count", 2),
        *("--scheduler", "euler-a", "--spacing", "karras", "--eta", 0.25, "--clip-skip", 1),
        *("--precision", "fastest", "--format", "webp", "--quality", 80),
        "--vae-tiling",
        *(
            "--preview-every",
            3,
            "--request-id",
            request_id,
            "--queue-timeout",
            "1.5m",
            "--run-timeout",
            2.5,
        ),
        *("--priority", "high", "--detach", "--tag", "a", "--tag", "b", "-o", tmp_path),
        *("--finish", "crop:left=1,width=20,height=10", "--finish", "remove-background"),
    )

    expected = inference_pb2.GenerateRequest(
        postprocessing=[
            finishing_pb2.PostprocessingStep(
                crop=finishing_pb2.CropStep(left=1, width=20, height=10)
            ),
            finishing_pb2.PostprocessingStep(
                remove_background=finishing_pb2.RemoveBackgroundStep()
            ),
        ],
        settings=generation_pb2.GenerationSettings(
            prompt="a (cat)",
            negative_prompt="dog",
            prompt_syntax=generation_pb2.PROMPT_SYNTAX_WEIGHTED,
            embedding_model_ids=["far"],
            model_id="emoji-xl",
            width=256,
            height=512,
            steps=12,
            guidance=sampling_pb2.GuidanceSettings(scale=6.5, rescale=0.5),
            clip_skip=1,
            scheduler=sampling_pb2.SchedulerSettings(
                scheduler=sampling_pb2.SCHEDULER_EULER_ANCESTRAL_DISCRETE,
                spacing=sampling_pb2.SIGMA_SPACING_KARRAS,
                ancestral=sampling_pb2.AncestralOptions(eta=0.25),
            ),
            image_count=2,
            seeds=[3, 4],
        ),
        options=session_pb2.WorkOptions(
            request_id=request_id,
            priority=session_pb2.PRIORITY_HIGH,
            queue_timeout=Duration(seconds=90),
            run_timeout=Duration(seconds=2, nanos=500_000_000),
            on_disconnect=session_pb2.ON_DISCONNECT_DETACH,
            tags=["a", "b"],
        ),
        delivery=session_pb2.DeliveryOptions(
            previews=session_pb2.PreviewSettings(every_steps=3)
        ),
        placement=device_info_pb2.DevicePlacement(device_id="cpu:0"),
    )
    expected.settings.sdxl.refiner.model_id = "fine"
    expected.settings.sdxl.refiner.switch_at = 0.7
    expected.settings.sdxl.refiner.mode = generation_pb2.REFINER_MODE_IMAGE_TO_IMAGE
    expected.settings.precision.mode = generation_pb2.PRECISION_MODE_FASTEST
    expected.settings.precision.vae_tiling = common_pb2.TOGGLE_ON
    expected.settings.output.format = common_pb2.IMAGE_FILE_FORMAT_WEBP
    expected.settings.output.quality = 80
    assert scripted.requests == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), None),
        (("-d", "gpu"), device_info_pb2.DevicePlacement(device_id="gpu")),
        (
            ("--device", "cuda:0", "--device", "cuda:1"),
            device_info_pb2.DevicePlacement(
                any=device_info_pb2.DeviceChoice(device_ids=["cuda:0", "cuda:1"])
            ),
        ),
        (
            ("--any-of", "cuda, directml"),
            device_info_pb2.DevicePlacement(
                any=device_info_pb2.DeviceChoice(
                    kinds=[
                        device_info_pb2.DEVICE_KIND_CUDA,
                        device_info_pb2.DEVICE_KIND_DIRECT_ML,
                    ]
                )
            ),
        ),
        (
            ("--any-of", "cuda", "--device", "gpu"),
            device_info_pb2.DevicePlacement(
                any=device_info_pb2.DeviceChoice(
                    device_ids=["gpu"], kinds=[device_info_pb2.DEVICE_KIND_CUDA]
                )
            ),
        ),
    ],
)
def test_a_device_is_named_chosen_or_left_to_the_server(
    arguments: tuple[str, ...],
    expected: device_info_pb2.DevicePlacement | None,
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
) -> None:
    scripted.on_generate = lambda request, context: whole(png())

    done = against("generate", "x", "-o", tmp_path, *arguments)

    (sent,) = scripted.requests
    assert (sent.placement if sent.HasField("placement") else None) == expected
    assert "generation on cpu:0 (its queue ends first)\n" in done.stderr


def test_numbers_below_the_least_are_the_servers_to_refuse(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The contract's integers are signed, so that it can name the field."""
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "--seed", -1, "-o", tmp_path)

    assert scripted.requests[0].settings.seed == -1


def test_tiles_can_be_forbidden(against: Run, scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "-o", tmp_path, "--no-vae-tiling")

    (sent,) = scripted.requests
    assert sent.settings.precision.vae_tiling == common_pb2.TOGGLE_OFF


@pytest.mark.parametrize(
    ("name", "horizontally", "vertically"),
    [("x", True, False), ("y", False, True), ("both", True, True)],
)
def test_seeds_edges_and_a_second_pass_reach_their_fields(
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
    name: str,
    horizontally: bool,
    vertically: bool,
) -> None:
    """What has no option of its own is set beside them."""
    scripted.on_generate = lambda request, context: whole(png())

    against(
        *("generate", "x", "-o", tmp_path, "--variation-seed", 11),
        *("--variation-strength", 0.25, "--seamless", name, "--second-pass", 1.5),
        *("--set", "second_pass.upscale=pixels", "--set", "second_pass.strength=0.3"),
    )

    (sent,) = scripted.requests
    assert sent.settings == generation_pb2.GenerationSettings(
        prompt="x",
        variation=generation_pb2.SeedVariation(seed=11, strength=0.25),
        seamless_horizontally=horizontally,
        seamless_vertically=vertically,
        second_pass=generation_pb2.SecondPass(
            scale=1.5, strength=0.3, upscale=generation_pb2.SECOND_PASS_UPSCALE_PIXELS
        ),
    )


@pytest.mark.parametrize(
    ("name", "upscale", "postprocessor_id"),
    [
        ("latent", generation_pb2.SECOND_PASS_UPSCALE_LATENT, ""),
        ("pixels", generation_pb2.SECOND_PASS_UPSCALE_PIXELS, ""),
        ("model", generation_pb2.SECOND_PASS_UPSCALE_MODEL, ""),
        ("compact-2x", generation_pb2.SECOND_PASS_UPSCALE_MODEL, "compact-2x"),
    ],
)
def test_what_enlarges_for_a_second_pass_has_one_option(
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
    name: str,
    upscale: generation_pb2.SecondPassUpscale,
    postprocessor_id: str,
) -> None:
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "-o", tmp_path, "--second-pass", 2, "--upscaler", name)

    (sent,) = scripted.requests
    assert sent.settings.second_pass == generation_pb2.SecondPass(
        scale=2, upscale=upscale, postprocessor_id=postprocessor_id
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--variation-strength", 0.5), "needs --variation-seed"),
        (("--upscaler", "compact-2x"), "needs --second-pass"),
        (("--seamless", "z"), "x, y, both"),
        (("--variation-seed", 2**70), "64 bits"),
    ],
)
def test_seeds_and_edges_that_mean_nothing_are_refused_here(
    against: Run, scripted: ScriptedServer, arguments: tuple[object, ...], said: str
) -> None:
    done = against("generate", "x", *arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert scripted.requests == []


def test_what_was_not_said_is_left_to_the_server(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Only the prompt and a request id, a new one each time, so that it can be repeated."""
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "-o", tmp_path)
    against("generate", "x", "-o", tmp_path)

    first, second = scripted.requests
    assert first.settings == generation_pb2.GenerationSettings(prompt="x")
    assert len(first.options.request_id) == 36
    assert first.options.request_id != second.options.request_id


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scheduler", "magic"), "'magic' is none of: dpm++2m,"),
        (("--seed", str(2**63)), "--seed: 9223372036854775808 does not fit"),
        (("--steps", str(2**31)), "--steps: 2147483648 does not fit"),
        (("--queue-timeout", "soon"), "--queue-timeout: 'soon' is no time"),
        (("--any-of", "cuda,abacus"), "'abacus' is none of: cpu, cuda, rocm"),
        (("--no-data", "-o", "x"), "--no-data saves nothing"),
        (("--seeds", "1,two"), "--seeds: '1,two' is no list"),
        (("--precision", "rough"), "'rough' is none of: exact, fastest"),
        (("--lora", ""), "--lora: '' is not ID, ID:WEIGHT"),
        (("--lora", ":0.5"), "--lora: ':0.5' is not ID"),
        (("--lora", "ink:much"), "--lora: 'ink:much' is not ID"),
        (("--lora", "ink:"), "--lora: 'ink:' is not ID"),
        (("--lora", "ink:1:2:3"), "--lora: 'ink:1:2:3' is not ID"),
    ],
)
def test_options_that_make_no_request_are_not_sent(
    arguments: tuple[str, ...], said: str, against: Run, scripted: ScriptedServer
) -> None:
    """They are refused here, with what would be accepted."""
    done = against("generate", "x", *arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("text", "weight", "text_encoder_weight"),
    [
        ("ink", None, None),
        ("ink:0.8", 0.8, None),
        ("ink:-2:0", -2.0, 0.0),
        ("ink:1e-1: .5", 0.1, 0.5),
    ],
)
def test_a_lora_is_an_id_and_up_to_two_weights(
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
    text: str,
    weight: float | None,
    text_encoder_weight: float | None,
) -> None:
    """What is not said stays absent: the server's default, or as the other weight."""
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "--lora", text, "--lora", "other", "-o", tmp_path)

    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    first, second = asked.settings.loras
    assert (first.model_id, second.model_id) == ("ink", "other")
    assert first.HasField("weight") == (weight is not None)
    assert first.weight == pytest.approx(weight or 0.0)
    assert first.HasField("text_encoder_weight") == (text_encoder_weight is not None)
    assert first.text_encoder_weight == pytest.approx(text_encoder_weight or 0.0)
