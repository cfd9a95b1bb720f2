"""`deviceops generate --like`: settings out of pictures of this and of other programs."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import AvifImagePlugin, ExifTags, Image

from deviceops.v1 import generation_pb2, inference_pb2, sampling_pb2
from server.cli import picture_texts
from server.cli.choices import UnusableOptions
from server.cli.infotext import read_infotext
from server.cli.likeness import likeness
from server.cli.picture_texts import read_texts
from server.cli.stated_settings import read_stated
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, whole
from tests.server.cli.scripted import ScriptedServer

A1111 = """a photo of (a cat:1.3), <lora:add detail:0.6>, \
masterpiece
second line <lora:style:0.2:0.9>
Negative prompt: ugly,
blurred
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234, Size: 640x512, \
Model hash: 6ce0161689, Model: v1-5-pruned.safetensors, VAE: vae-ft-mse-840000.ckpt, \
Clip skip: 2, \
Denoising strength: 0.45, Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent, \
Lora hashes: "add detail: 7c6bad76eb54, style: 1234", ENSD: 31337, Version: v1.8.0"""
STATED = {
    "format_version": 3,
    "prompt": "a cat",
    "steps": 12,
    "seed": 7,
    "width": 512,
    "height": 512,
    "scheduler": {"scheduler": "ddim", "spacing": "model", "ddim": {"eta": 0.5}},
    "loras": [{"model_id": "line-art", "weight": 0.5, "text_encoder_weight": None}],
    "precision": {"mode": "exact", "vae_tiling": "server"},
    "data_types": {"denoiser": "float32"},
}


def chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def picture(folder: Path, *chunks: bytes, name: str = "picture.png") -> Path:
    """A PNG with chunks behind its pixels, where others may write them."""
    path = folder / name
    data = png()
    path.write_bytes(data[:-12] + b"".join(chunks) + data[-12:])
    return path


def text(key: str, content: str) -> bytes:
    return chunk(b"iTXt", key.encode() + b"\0\0\0\0\0" + content.encode())


def test_settings_of_a_picture_are_asked_for_again(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("deviceops", json.dumps(STATED)))

    done = against("generate", "--like", like, "-o", tmp_path / "out")

    assert done.exit_code == 0, done.output
    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    settings = asked.settings
    assert (settings.prompt, settings.steps, settings.seed) == ("a cat", 12, 7)
    assert settings.scheduler.scheduler == sampling_pb2.SCHEDULER_DDIM
    assert settings.scheduler.ddim.eta == 0.5
    assert settings.precision.mode == generation_pb2.PRECISION_MODE_EXACT
    assert [(lora.model_id, lora.weight) for lora in settings.loras] == [("line-art", 0.5)]
    assert not settings.loras[0].HasField("text_encoder_weight")


def test_options_stand_in_place_of_what_the_picture_says(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("deviceops", json.dumps(STATED)))
    options = ("--seed", 0, "--scheduler", "euler", "--lora", "other", "--steps", 3, "--set")

    against("generate", "a dog", "--like", like, *options, "width=256", "-o", tmp_path / "out")

    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    settings = asked.settings
    assert (settings.prompt, settings.seed, settings.steps) == ("a dog", 0, 3)
    assert (settings.width, settings.height) == (256, 512)
    assert settings.scheduler == sampling_pb2.SchedulerSettings(
        scheduler=sampling_pb2.SCHEDULER_EULER_DISCRETE
    )
    assert [lora.model_id for lora in settings.loras] == ["other"]


@pytest.mark.parametrize(
    ("stated", "option", "sent"),
    [
        (
            {"scheduler": "euler_ancestral_discrete", "ancestral": {"noise": 1.25}},
            ("--eta", 0.25),
            {"ancestral": {"eta": 0.25, "noise": 1.25}},
        ),
        ({"scheduler": "tcd"}, ("--eta", 0.25), {"ancestral": {"eta": 0.25}}),
        ({"scheduler": "ddim", "ddim": {"eta": 1.0}}, ("--eta", 0), {"ddim": {"eta": 0.0}}),
        ({"scheduler": "lms_discrete"}, ("--order", 3), {"linear_multistep": {"order": 3}}),
    ],
)
def test_options_of_the_sampler_are_those_of_the_pictures_own(
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
    stated: dict[str, Any],
    option: tuple[Any, ...],
    sent: dict[str, Any],
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("deviceops", json.dumps({**STATED, "scheduler": stated})))

    done = against("generate", "--like", like, *option, "-o", tmp_path / "out")

    assert done.exit_code == 0, done.output
    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    found = json_format.MessageToDict(
        asked.settings.scheduler, preserving_proto_field_name=True
    )
    assert found.pop("scheduler")
    assert found == sent


def test_a_sampler_that_is_named_has_its_own_options_beside_a_picture(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("deviceops", json.dumps(STATED)))

    against(
        *("generate", "--like", like, "--scheduler", "euler-a", "--eta", 0.25),
        *("-o", tmp_path / "out"),
    )

    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    assert asked.settings.scheduler.ancestral.eta == 0.25


def test_lists_stand_in_place_of_the_pictures_own(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """They are not joined: the same embedding twice would be refused."""
    scripted.on_generate = lambda request, context: whole(png())
    stated = {
        **STATED,
        "embedding_model_ids": ["far", "near"],
        "control_nets": [{"model_id": "canny", "conditioning_scale": 0.5}],
    }
    source = picture(tmp_path, text("deviceops", json.dumps(stated)))
    (tmp_path / "edges.png").write_bytes(png())
    done = against(
        *("generate", "--like", source, "--embedding", "far", "--lora", "pixel-art:1"),
        *("--control", f"depth:{tmp_path / 'edges.png'}", "-o", tmp_path / "out"),
    )

    assert done.exit_code == 0, done.output
    (request,) = scripted.of_type(inference_pb2.GenerateRequest)
    assert list(request.settings.embedding_model_ids) == ["far"]
    assert [lora.model_id for lora in request.settings.loras] == ["pixel-art"]
    assert [net.model_id for net in request.settings.control_nets] == ["depth"]


def test_seeds_replace_the_pictures_one(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("deviceops", json.dumps(STATED)))

    against("generate", "--like", like, "--seeds", "4,5", "-o", tmp_path / "out")

    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    assert list(asked.settings.seeds) == [4, 5]
    assert not asked.settings.HasField("seed")


def test_without_prompt_and_picture_there_is_nothing_to_draw(
    against: Run, scripted: ScriptedServer
) -> None:
    done = against("generate")

    assert done.exit_code == 2
    assert "--like" in done.stderr
    assert scripted.requests == []


def test_another_programs_text_is_read_and_what_is_not_the_same_is_said(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    like = picture(tmp_path, text("parameters", A1111))

    done = against("generate", "--like", like, "-o", tmp_path / "out")

    (asked,) = scripted.of_type(inference_pb2.GenerateRequest)
    settings = asked.settings
    assert settings.prompt == "a photo of (a cat:1.3), , masterpiece\nsecond line"
    assert settings.prompt_syntax == generation_pb2.PROMPT_SYNTAX_WEIGHTED
    assert settings.negative_prompt == "ugly,\nblurred"
    assert (settings.steps, settings.seed, settings.guidance.scale) == (28, 1234, 7)
    assert (settings.width, settings.height, settings.clip_skip) == (640, 512, 1)
    assert settings.model_id == "v1-5-pruned"
    assert settings.vae_model_id == "vae-ft-mse-840000"
    assert settings.scheduler.scheduler == sampling_pb2.SCHEDULER_DPM_SOLVER_MULTISTEP
    assert settings.scheduler.spacing == sampling_pb2.SIGMA_SPACING_KARRAS
    loras = [(lora.model_id, lora.weight, lora.text_encoder_weight) for lora in settings.loras]
    assert loras == [("add detail", 0.6, 0.0), ("style", 0.9, 0.2)]
    second = settings.second_pass
    assert (second.scale, second.strength, second.steps) == (1.5, 0.45, 10)
    assert not settings.HasField("image_to_image")
    assert "ENSD" in done.stderr
    assert "Version" not in done.stderr


@pytest.mark.parametrize(
    ("sampler", "scheduler", "note"),
    [
        ("Euler a", sampling_pb2.SCHEDULER_EULER_ANCESTRAL_DISCRETE, ""),
        ("DPM++ SDE Karras", sampling_pb2.SCHEDULER_DPM_SOLVER_SDE, ""),
        ("DPM++ 2M SDE", sampling_pb2.SCHEDULER_DPM_SOLVER_MULTISTEP, ""),
        ("UniPC", sampling_pb2.SCHEDULER_UNIPC_MULTISTEP, ""),
        ("Restart", sampling_pb2.SCHEDULER_UNSPECIFIED, "no sampler 'Restart'"),
        ("DPM fast", sampling_pb2.SCHEDULER_UNSPECIFIED, "no sampler 'DPM fast'"),
    ],
)
def test_samplers_go_by_their_common_names(sampler: str, scheduler: int, note: str) -> None:
    reading = read_infotext(f"x\nSteps: 20, Sampler: {sampler}, Seed: 1")

    assert reading.settings.scheduler.scheduler == scheduler
    assert note in " ".join(reading.notes)
    assert bool(reading.notes) == bool(note)


@pytest.mark.parametrize(
    ("sampler", "name", "field"),
    [
        ("Euler a", "Eta", "ancestral"),
        ("DDIM", "Eta DDIM", "ddim"),
        ("DPM++ 2M SDE", "Eta", None),
        ("Restart", "Eta", None),
    ],
)
def test_a_share_of_fresh_noise_goes_to_a_sampler_that_has_one(
    sampler: str, name: str, field: str | None
) -> None:
    plain = read_infotext(f"x\nSteps: 20, Sampler: {sampler}, Seed: 1")
    reading = read_infotext(f"x\nSteps: 20, Sampler: {sampler}, Seed: 1, {name}: 0.5")

    if field is None:
        assert reading.settings == plain.settings  # a solver's own options stay
        assert "Eta is not taken over" in reading.notes[-1]
    else:
        assert getattr(reading.settings.scheduler, field).eta == 0.5
        assert reading.notes == []


def test_another_upscaler_stands_in_place_of_the_pictures(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())
    second = {"scale": 1.5, "upscale": "model", "postprocessor_id": "compact-2x"}
    like = picture(tmp_path, text("deviceops", json.dumps(STATED | {"second_pass": second})))

    against("generate", "--like", like, "--upscaler", "pixels", "-o", tmp_path / "out")
    against("generate", "--like", like, "-o", tmp_path / "again")

    other, same = (each.settings.second_pass for each in scripted.requests)
    assert (other.scale, other.upscale, other.postprocessor_id) == (
        1.5,
        generation_pb2.SECOND_PASS_UPSCALE_PIXELS,
        "",
    )
    assert same == generation_pb2.SecondPass(
        scale=1.5,
        upscale=generation_pb2.SECOND_PASS_UPSCALE_MODEL,
        postprocessor_id="compact-2x",
    )


@pytest.mark.parametrize(
    ("upscaler", "upscale", "postprocessor_id", "said"),
    [
        ("Latent", generation_pb2.SECOND_PASS_UPSCALE_LATENT, "", False),
        ("Lanczos", generation_pb2.SECOND_PASS_UPSCALE_PIXELS, "", False),
        ("Latent (bicubic)", generation_pb2.SECOND_PASS_UPSCALE_UNSPECIFIED, "", True),
        ("Nearest", generation_pb2.SECOND_PASS_UPSCALE_UNSPECIFIED, "", True),
        ("compact-2x", generation_pb2.SECOND_PASS_UPSCALE_MODEL, "compact-2x", False),
        ("4x-UltraSharp.pth", generation_pb2.SECOND_PASS_UPSCALE_MODEL, "4x-UltraSharp", False),
    ],
)
def test_what_enlarged_it_enlarges_again(
    upscaler: str,
    upscale: generation_pb2.SecondPassUpscale,
    postprocessor_id: str,
    said: bool,
) -> None:
    text = f"a cat\nSteps: 9, Seed: 1, Hires upscale: 2, Hires upscaler: {upscaler}"
    found = read_infotext(text)
    second = found.settings.second_pass
    assert (second.upscale, second.postprocessor_id) == (upscale, postprocessor_id)
    assert any("no upscaler" in note for note in found.notes) is said


def test_a_picture_that_was_drawn_from_one_says_that_it_is_needed() -> None:
    reading = read_infotext("x\nSteps: 20, Seed: 1, CFG scale: 1, Denoising strength: 0.6")

    assert reading.settings.image_to_image.strength == 0.6
    assert "image_to_image.image=FILE" in reading.notes[0]


def test_a_text_without_settings_is_a_prompt() -> None:
    assert read_infotext("a cat: sitting, here").settings.prompt == "a cat: sitting, here"
    assert read_infotext("").settings.prompt == ""


def test_a_quoted_value_may_hold_commas() -> None:
    reading = read_infotext('x\nSteps: 2, Model: "a, \\"b\\": c", Seed: 5')

    assert (reading.settings.model_id, reading.settings.seed) == ('a, "b": c', 5)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Steps: many, Seed: 1, CFG scale: 7", "Steps"),
        ("Steps: 20, Seed: 99999999999999999999999, CFG scale: 7", "Seed"),
        ("Steps: 20, Seed: 1, CFG scale: nan", "CFG scale"),
        ("Steps: 20, Seed: 1, CFG scale: 7, Size: 512", "Size"),
        ("Steps: 20, Seed: 1, CFG scale: 7, Clip skip: x", "Clip skip"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(line: str, name: str) -> None:
    with pytest.raises(UnusableOptions, match=f"its {name} is"):
        read_infotext(f"x\n{line}")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": "12"}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": 2**40}, "steps"),
        ({"prompt": 5}, "prompt"),
        ({"guidance": []}, "guidance"),
        ({"guidance": {"scale": "x"}}, "guidance.scale"),
        ({"loras": {}}, "loras"),
        ({"loras": [{"weight": "x"}]}, r"loras\[0\].weight"),
        ({"scheduler": {"scheduler": "magic"}}, "scheduler.scheduler"),
        ({"image_to_image": {"image": {"sha256": 5}}}, "image_to_image.image.sha256"),
    ],
)
def test_damaged_settings_are_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UnusableOptions, match=f": {field} is "):
        read_stated(json.dumps(STATED | change))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "[" * 100_000, '{"format_version": 99}'])
def test_what_is_not_this_servers_text_is_refused(text: str) -> None:
    with pytest.raises(UnusableOptions, match="settings are"):
        read_stated(text)


def test_what_is_unknown_is_said_and_what_lay_inline_is_asked_for() -> None:
    inline = {"image_to_image": {"image": {"sha256": "5" * 64, "artifact": False}}}
    kept = {"image_to_image": {"image": {"sha256": "5" * 64, "artifact": True}}}

    _, notes = read_stated(json.dumps(STATED | inline | {"fragrance": 1}))
    again, none = read_stated(json.dumps(STATED | kept))

    assert any("fragrance" in note for note in notes)
    assert any("--set image_to_image.image=FILE" in note for note in notes)
    assert again.image_to_image.image.artifact_id == "5" * 64
    assert none == []


def avif(kind: bytes = b"ftyp", *inside: bytes) -> bytes:
    """A box of an AVIF; by default its first one."""
    body = b"".join(inside) or b"avif\0\0\0\0"
    return struct.pack(">I4s", 8 + len(body), kind) + body


EXIF_ITEM = avif(b"iinf", b"\0\0\0\0\0\1", avif(b"infe", b"\2\0\0\0\0\1\0\0Exif\0"))
BOMB = zlib.compress(bytes(1 << 26), 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a" + bytes(100),
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + chunk(b"zTXt", b"parameters\0\0" + BOMB),
        b"\x89PNG\r\n\x1a\n" + chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB),
        b"\x89PNG\r\n\x1a\n" + chunk(b"iTXt", b"deviceops\0\0\0\0\0\xff\xfe"),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**31 - 1, b"tEXt"),
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0",
        b"\xff\xd8\xff\xe1\x00\x10Exif\0\0XX*\0\0\0\0\x08",
        b"\xff\xd8\xff\xe1\x00\x16Exif\0\0II*\0\xff\xff\xff\xff" + bytes(8),
        b"RIFF\0\0\0\0WEBPEXIF\xff\xff\xff\xff",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x10ftypavif\0\0\0\0",
        avif() + avif(b"iinf", b"\0" * 6) * 2_000,
        avif() + avif(b"meta", bytes(4), EXIF_ITEM),
        avif() + avif(b"meta", bytes(4), EXIF_ITEM, avif(b"iloc", b"\0" * 40)),
        avif() + avif(b"meta", bytes(4), EXIF_ITEM, avif(b"iloc", b"\0\0\0\0\x44" + bytes(3))),
        avif() + avif(b"meta", bytes(4), b"\0\0\0\1xxxx"),
        b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\1free" + bytes(8),
    ],
)
def test_a_hostile_file_costs_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(content)

    with pytest.raises(UnusableOptions):
        likeness(path)


def whole_avif() -> bytes:
    """A small picture whose description is taken for a text of this server's."""
    exif, data = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.ImageDescription] = '{"a": 1}'
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (16, 8)).save(data, "AVIF", exif=exif)
    return data.getvalue()


def test_a_damaged_avif_is_read_or_refused(tmp_path: Path) -> None:
    random, path, whole_one = Random(1), tmp_path / "damaged.avif", whole_avif()
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole_one)
        for _ in range(random.randint(1, 6)):
            damaged[random.randrange(12, len(damaged))] = random.randrange(256)
        path.write_bytes(damaged[: random.randint(100, 2 * len(damaged))])
        try:
            read_texts(path)
        except UnusableOptions:
            refused += 1
    assert 100 < refused < 400


def test_an_avif_needs_a_pillow_that_reads_it_and_no_endless_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.avif"
    path.write_bytes(whole_avif())
    assert read_texts(path).full == '{"a": 1}'

    monkeypatch.setattr(picture_texts, "_MOST_AVIF_BYTES", 64)
    with pytest.raises(UnusableOptions, match="damaged"):
        read_texts(path)
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(UnusableOptions, match="Pillow here reads none"):
        read_texts(path)


@given(st.binary(max_size=300))
def test_no_file_does_more_than_be_refused(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x01\x00Exif\0\0II", avif(), b""):
        path.write_bytes(start + content)
        try:
            likeness(path)
        except UnusableOptions:
            continue


@given(st.text(max_size=400))
@example("x\nSteps: 1, Sampler: \\, Seed: " + '"' * 300)
@example("<lora:" * 2_000)
@example("a " * 20_000 + "\n" + "b " * 20_000)
def test_no_text_does_more_than_be_refused(content: str) -> None:
    for whole_text in (content, f"x\nSteps: 20, Seed: 1, CFG scale: 7, {content}"):
        try:
            read_infotext(whole_text)
        except UnusableOptions:
            continue


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnusableOptions, match="cannot be read"):
        likeness(tmp_path / "nothing.png")
    with pytest.raises(UnusableOptions, match="holds no settings"):
        likeness(picture(tmp_path))
