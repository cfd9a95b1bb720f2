"""Memory that runs out: one more try, tiles where that is allowed, else a typed error."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from domains.chain.backends import upscaler_shelf
from domains.chain.types import UpscaleStep
from domains.device.jobs import OptimizationJob, ReleaseJob
from domains.device.types import OptimizationProfile
from domains.errors import Reason, ResourceExhausted
from domains.inference.backends import (
    decoding,
    denoise,
    image_attention,
    inversion_files,
    lora_layers,
    lora_shelf,
    speed,
)
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.second_try import with_room
from domains.inference.jobs import Companion, ImagePromptPictures
from domains.inference.types import (
    GuidanceSettings,
    ImagePrompt,
    LoraWeight,
    PrecisionMode,
    SecondPass,
    SecondPassUpscale,
    Toggle,
)
from domains.model.types import ModelType
from domains.picture.types import PreparedPicture
from domains.session.jobs import EncodedImage
from domains.values import DegradationKind, ModelPlace, OutputSettings
from tests.domains.chain.backends.test_work import model as upscaler
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.model.image_prompts import adapter_file, encoder_folder
from tests.fakes.jobs import Listener, changed


def starve() -> torch.Tensor:
    """Ask torch's allocator for more than any machine has."""
    return torch.empty(1 << 50, dtype=torch.uint8)


def draw(engine, work, **changes):
    heard = Listener()
    small = changed(work, steps=1, width=64, height=64)
    report = engine.generate(changed(small, **changes), heard)
    return [event.data for event in heard.events if isinstance(event, EncodedImage)], report


def failing(real, times):
    """`real`, whose first `times` calls find no memory; and how often it was called."""
    calls = []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) <= times:
            starve()
        return real(*arguments, **options)

    return call, calls


def test_room_is_made_once():
    made = []
    call, calls = failing(lambda: "done", 1)
    assert with_room(call, lambda: made.append(1)) == "done"
    assert (len(calls), made) == (2, [1])
    call, calls = failing(lambda: "done", 2)
    with pytest.raises(RuntimeError, match="allocate"):
        with_room(call, lambda: made.append(2))
    assert len(calls) == 2


def test_room_is_made_for_nothing_else():
    def broken():
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_room(broken, lambda: pytest.fail("made room"))


@pytest.mark.parametrize(("module", "name"), [(denoise, "predict"), (decoding, "decode")])
def test_a_second_try_gives_the_same_picture(engine, work, monkeypatch, module, name):
    whole, _ = draw(engine, work)
    call, calls = failing(getattr(module, name), 1)
    monkeypatch.setattr(module, name, call)
    again, report = draw(engine, work)
    assert again == whole
    assert report.degradations == ()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (lora_shelf, "read_tensor"),
        (lora_layers, "change_of"),
        (inversion_files, "read_tensor"),
        (image_attention, "_pairs"),
    ],
)
def test_what_goes_with_a_model_has_room_made_for_it(
    engine, work, monkeypatch, tmp_path, module, name
):
    """While it is read, and while it is put on: what is idle goes."""
    encoder_folder(tmp_path / "encoder")
    path = tmp_path / "picture"
    path.write_bytes(bytes(3 * 8 * 8))
    picture = PreparedPicture(path, 8, 8, hashlib.sha256(path.read_bytes()).hexdigest())
    files = {
        "line-art": (ModelType.LORA, MODEL.parent / "line-art.safetensors"),
        "emoji-embedding": (ModelType.EMBEDDING, MODEL.parent / "emoji-embedding.safetensors"),
        "plain": (ModelType.IMAGE_PROMPT_ADAPTER, adapter_file(tmp_path / "plain.safetensors")),
        "encoder": (ModelType.IMAGE_ENCODER, tmp_path / "encoder"),
    }
    changes = {
        "prompt": "a red apple <far>",
        "loras": (LoraWeight("line-art", 0.8, 0.8),),
        "embedding_model_ids": ("emoji-embedding",),
        "image_prompts": (ImagePrompt("plain", "encoder"),),
        "image_prompt_pictures": (ImagePromptPictures((picture,)),),
        "companions": tuple(
            Companion(each, kind, ModelPlace.of(file), trigger_words=("<far>",))
            for each, (kind, file) in files.items()
        ),
    }
    whole, _ = draw(engine, work, **changes)
    idle = Companion(
        "idle", ModelType.LORA, ModelPlace.of(MODEL.parent / "pixel-art.safetensors")
    )
    draw(engine, work, loras=(LoraWeight("idle", 1.0, 1.0),), companions=(idle,))
    engine.release(ReleaseJob(("line-art",)), Listener())
    assert "idle" in [part.model_id for part in engine.held()]
    call, calls = failing(getattr(module, name), 1)
    monkeypatch.setattr(module, name, call)
    again, report = draw(engine, work, **changes)

    assert again == whole
    assert report.degradations == ()
    assert len(calls) >= 2
    assert "idle" not in [part.model_id for part in engine.held()]


def test_a_chain_has_room_made_for_what_it_reads(engine, work, monkeypatch, tmp_path):
    step = UpscaleStep(factor=2, model=upscaler(tmp_path))
    job = changed(work, steps=1, width=64, height=64)
    job = replace(job, steps=(step,), finished_width=128, finished_height=128)

    def drawn():
        heard = Listener()
        assert engine.generate(job, heard).degradations == ()
        return [each.data for each in heard.events if isinstance(each, EncodedImage)]

    whole = drawn()
    engine.release(ReleaseJob((step.model.model_id,)), Listener())
    call, calls = failing(upscaler_shelf.load_upscaler, 1)
    monkeypatch.setattr(upscaler_shelf, "load_upscaler", call)

    assert drawn() == whole
    assert len(calls) == 2


def test_an_upscaler_has_room_made_for_it(engine, work, monkeypatch, tmp_path):
    model = upscaler(tmp_path)
    changes = {
        "second_pass": SecondPass(
            scale=1.5,
            upscale=SecondPassUpscale.MODEL,
            strength=0.5,
            steps=2,
            guidance=GuidanceSettings(2.0),
            postprocessor_id=model.model_id,
        ),
        "companions": (Companion(model.model_id, ModelType.UPSCALER, model.place),),
    }
    whole, _ = draw(engine, work, **changes)
    engine.release(ReleaseJob((model.model_id,)), Listener())
    call, calls = failing(upscaler_shelf.load_upscaler, 1)
    monkeypatch.setattr(upscaler_shelf, "load_upscaler", call)
    again, report = draw(engine, work, **changes)

    assert again == whole
    assert report.degradations == ()
    assert len(calls) == 2


@pytest.mark.parametrize(("module", "name"), [(denoise, "predict"), (decoding, "decode")])
def test_two_failures_are_told_and_the_next_smaller_job_works(
    engine, work, monkeypatch, module, name
):
    smaller, _ = draw(engine, work)
    call, _ = failing(getattr(module, name), 2)
    monkeypatch.setattr(module, name, call)
    with pytest.raises(ResourceExhausted) as caught:
        draw(engine, work, width=128)
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
    facts = caught.value.metadata
    assert facts["needed_bytes"] == str(1 << 50)
    assert int(facts["free_bytes"]) > 0
    assert (facts["evictable_bytes"], facts["evictable_model_ids"]) == ("0", "")
    assert not any(part.in_use for part in engine.held())
    assert draw(engine, work)[0] == smaller


def test_a_large_picture_is_decoded_in_tiles_when_nothing_else_helps(engine, work, monkeypatch):
    monkeypatch.setattr(decoding, "decode", failing(decoding.decode, 2)[0])
    images, report = draw(engine, work, width=1024, precision=PrecisionMode.OPEN)
    assert len(images) == 1
    assert [entry.kind for entry in report.degradations] == [DegradationKind.VAE_TILED]


def test_an_exact_picture_is_never_decoded_in_tiles_for_want_of_memory(
    engine, work, monkeypatch
):
    monkeypatch.setattr(decoding, "decode", failing(decoding.decode, 2)[0])
    with pytest.raises(ResourceExhausted):
        draw(engine, work, width=1024, precision=PrecisionMode.EXACT)


def test_tiles_that_are_asked_for_are_those_of_the_profile(work, engine):
    plain = {
        "width": 1024,
        "output": OutputSettings(omit_parameters=True),
        "precision": PrecisionMode.EXACT,
    }
    asked, report = draw(engine, work, vae_tiling=Toggle.ON, **plain)
    assert [entry.kind for entry in report.degradations] == [DegradationKind.VAE_TILED]
    assert "request" in report.degradations[0].detail
    whole, _ = draw(engine, work, **plain)
    low = Engine("cpu")
    low.optimize(OptimizationJob(OptimizationProfile.LOW_MEMORY), Listener())
    by_profile, report = draw(low, work, **plain)
    assert DegradationKind.VAE_TILED in [entry.kind for entry in report.degradations]
    assert by_profile == asked
    assert whole != asked
    forbidden, report = draw(low, work, vae_tiling=Toggle.OFF, **plain)
    assert DegradationKind.VAE_TILED not in [entry.kind for entry in report.degradations]
    assert forbidden != asked


def test_a_picture_no_larger_than_a_tile_is_the_same_either_way(work, engine):
    plain = OutputSettings(omit_parameters=True)
    asked, report = draw(engine, work, vae_tiling=Toggle.ON, output=plain)
    assert report.degradations == ()
    assert draw(engine, work, output=plain)[0] == asked


def test_tiles_that_are_forbidden_are_not_the_way_out(work, engine, monkeypatch):
    monkeypatch.setattr(decoding, "decode", failing(decoding.decode, 2)[0])
    with pytest.raises(ResourceExhausted):
        draw(engine, work, width=1024, precision=PrecisionMode.OPEN, vae_tiling=Toggle.OFF)


def test_a_trial_without_room_is_left_out():
    network = nn.Linear(2, 2)
    narrow, wide = Numerics(torch.bfloat16), Numerics(torch.float32)

    def run(module, numerics, refused):
        return starve() if numerics in refused else module(torch.ones(2).to(numerics.data_type))

    fastest = partial(
        speed.fastest,
        network,
        (narrow, wide),
        device=torch.device("cpu"),
        check_stop=lambda: None,
    )
    chosen, numerics = fastest(run=partial(run, refused=(narrow,)))
    assert numerics == wide
    assert chosen is not network
    with pytest.raises(RuntimeError, match="allocate"):
        fastest(run=partial(run, refused=(narrow, wide)))


@pytest.mark.demonstration
def test_a_limit_of_the_process_is_told_and_survived(tmp_path):
    """The real allocator at a real limit: nothing is patched."""
    script = tmp_path / "limited.py"
    script.write_text(_LIMITED)
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        env={"PYTHONPATH": f"{root}", "PATH": "", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.stdout.split() == ["HOST_OUT_OF_MEMORY", "drawn"], done.stderr[-2000:]


_LIMITED = """
import resource
from pathlib import Path
from domains.errors import ResourceExhausted
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import GenerationSettings, GuidanceSettings, PrecisionMode
from domains.inference.types import Scheduler, SchedulerSettings
from domains.values import ModelPlace
from tests.fakes.jobs import Listener

engine = Engine("cpu")
def draw(edge):
    settings = GenerationSettings(
        prompt="a red apple", model_id="m",
        width=edge, height=edge, steps=1, guidance=GuidanceSettings(1.0),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE), seeds=(1,),
        precision=PrecisionMode.EXACT,
    )
    job = GenerationJob(settings, ModelPlace.of(Path("demo/models/emoji-xl").resolve()))
    engine.generate(job, Listener())

draw(64)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (128 << 20),) * 2)
try:
    draw(1024)
except ResourceExhausted as error:
    print(error.reason.value)
draw(64)
print("drawn")
"""
