"""How the engine behaves around the pictures: order, stops, reuse, faults."""

from __future__ import annotations

import io
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domains.device.backends import faults
from domains.device.errors import DeviceLost
from domains.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    Reason,
    ResourceExhausted,
)
from domains.inference.backends import decoding, drawing, through_vae
from domains.inference.backends import engine as engine_module
from domains.inference.backends.device import Numerics, traits_of
from domains.inference.backends.engine import Engine
from domains.inference.backends.precision import apply, vae_numerics
from domains.inference.types import PrecisionMode, Scheduler, SchedulerSettings
from domains.model.jobs import LoadJob
from domains.session.jobs import EncodedImage
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    PreviewSettings,
    StepFinished,
    TextEncoded,
    TransferProgress,
)
from domains.values import (
    DegradationKind,
    ImageFileFormat,
    ModelOrigin,
    ModelPart,
    ModelPlace,
    OutputSettings,
    TensorDataType,
)
from tests.fakes.jobs import Listener, changed

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"


def run(engine, work, check_stop=lambda: None, **changes):
    heard = Listener(check_stop)
    report = engine.generate(changed(work, **changes), heard)
    return heard.events, report


def data_types_of(report):
    return {each.part: each.data_type for each in report.data_types}


def test_a_report_says_where_the_model_was(work):
    engine = Engine("cpu")
    _, first = run(engine, work, steps=1, width=64, height=64)
    _, second = run(engine, work, steps=1, width=64, height=64)
    assert (first.origin, second.origin) == (ModelOrigin.DISK, ModelOrigin.LOADED)


def stop_after(calls):
    """A `check_stop` that raises at its call number `calls`."""
    left = [calls]

    def check_stop():
        left[0] -= 1
        if left[0] <= 0:
            raise Cancelled("Stopped.")

    return check_stop


def test_events_come_in_order(draw):
    events = draw(seeds=(1, 2), steps=2, width=64, height=64).events
    kinds = [
        (event.phase, event.image_index) if isinstance(event, PhaseStarted) else type(event)
        for event in events
        if not isinstance(event, TransferProgress)
        and not (isinstance(event, PhaseStarted) and event.phase is Phase.LOADING_MODEL)
    ]
    expected = [(Phase.ENCODING_TEXT, None), TextEncoded]
    for index in (0, 1):
        expected += [(Phase.DENOISING, index), StepFinished, StepFinished]
        expected += [(Phase.DECODING, index), ImageDecoded]
        expected += [(Phase.ENCODING_IMAGE, index), EncodedImage]
    assert kinds == expected


def test_each_of_many_pictures_is_the_single_one(draw):
    settings = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)
    many = draw(seeds=(11, 12, 13), steps=3, width=128, height=128, scheduler=settings)
    assert [image.seed for image in many.images] == [11, 12, 13]
    for index, seed in enumerate((11, 12, 13)):
        alone = draw(seeds=(seed,), steps=3, width=128, height=128, scheduler=settings)
        assert torch.equal(alone.latents[0], many.latents[index])
        assert np.array_equal(alone.pixels[0], many.pixels[index])


@pytest.mark.parametrize(
    "scheduler",
    [
        # These work out a thousand steps; Heun's calls the network twice in a step too.
        pytest.param(each, marks=pytest.mark.matrix) if "KDPM2" in each.value else each
        for each in Scheduler
    ],
)
def test_steps_are_the_users(draw, scheduler):
    settings = SchedulerSettings(scheduler)
    steps = draw(steps=3, width=64, height=64, scheduler=settings).steps
    assert [(step.step, step.steps) for step in steps] == [(1, 3), (2, 3), (3, 3)]


def test_texts_are_encoded_once(draw):
    first = draw(prompt="a prompt of its own", steps=1, width=64, height=64)
    again = draw(prompt="a prompt of its own", steps=1, width=64, height=64)
    skipped = draw(prompt="a prompt of its own", clip_skip=1, steps=1, width=64, height=64)
    cached = [
        next(event.cached for event in drawn.events if isinstance(event, TextEncoded))
        for drawn in (first, again, skipped)
    ]
    assert cached == [False, True, False]
    assert np.array_equal(first.pixels[0], again.pixels[0])


def test_a_stop_in_denoising_never_decodes(work, monkeypatch):
    engine = Engine("cpu")
    events, _ = run(engine, work, steps=1, width=64, height=64)
    whole = events[-1].data
    monkeypatch.setattr(through_vae, "decode_pixels", lambda *_, **__: pytest.fail("decoded"))
    heard = Listener()

    def stop_after_two_steps() -> None:
        if sum(isinstance(event, StepFinished) for event in heard.events) == 2:
            raise Cancelled("Stopped.")

    heard.check_stop = stop_after_two_steps
    with pytest.raises(Cancelled):
        engine.generate(changed(work, width=64, height=64), heard)
    assert sum(isinstance(event, StepFinished) for event in heard.events) == 2
    monkeypatch.undo()
    events, _ = run(engine, work, steps=1, width=64, height=64)
    assert events[-1].data == whole


def test_a_stop_after_the_last_step_never_decodes(engine, work, monkeypatch):
    run(engine, work, steps=1, width=64, height=64)
    monkeypatch.setattr(through_vae, "decode_pixels", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(Cancelled):
        run(engine, work, stop_after(3), steps=2, width=64, height=64)


def test_a_stop_while_loading_leaves_nothing_half_loaded(work):
    engine = Engine("cpu")
    with pytest.raises(Cancelled):
        run(engine, work, stop_after(4))
    assert engine.loaded_path is None
    events, _ = run(engine, work, steps=1, width=64, height=64)
    assert isinstance(events[-1], EncodedImage)


def test_whatever_check_stop_raises_passes_through(engine, work):
    class Odd(Exception):
        pass

    def check_stop():
        raise Odd

    with pytest.raises(Odd):
        run(engine, work, check_stop)


def test_loading_tells_bytes_up_to_all_of_them(work):
    engine = Engine("cpu")
    events, report = run(engine, work, steps=1, width=64, height=64)
    progress = [event for event in events if isinstance(event, TransferProgress)]
    done = [event.done_bytes for event in progress]
    assert done == sorted(done)
    assert progress[-1].done_bytes == progress[-1].total_bytes
    assert {event.item for event in progress} == {
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae",
    }
    assert report.timings.load > 0
    again, report = run(engine, work, steps=1, width=64, height=64)
    assert not any(isinstance(event, TransferProgress) for event in again)
    assert report.timings.load == 0
    assert data_types_of(report)[ModelPart.DENOISER] is TensorDataType.FLOAT32


def test_a_changed_file_is_loaded_again(work, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    engine = Engine("cpu")
    run(engine, work, model_path=folder, steps=1, width=64, height=64)
    weights = folder / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    os.utime(weights, ns=(1, 1))
    events, _ = run(engine, work, model_path=folder, steps=1, width=64, height=64)
    assert any(isinstance(event, TransferProgress) for event in events)
    weights.unlink()
    with pytest.raises(FailedPrecondition) as caught:
        run(engine, work, model_path=folder, steps=1, width=64, height=64)
    assert caught.value.reason is Reason.MODEL_INCOMPLETE
    events, _ = run(engine, work, steps=1, width=64, height=64)
    assert isinstance(events[-1], EncodedImage)


def test_no_socket_is_ever_opened(work, monkeypatch):
    def refuse(*_arguments, **_options):
        pytest.fail("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    run(Engine("cpu"), work, steps=1, width=64, height=64)


def test_requests_change_no_weight(engine, work):
    run(engine, work, steps=1, width=64, height=64)
    model = engine._model
    before = {
        name: {key: tensor.clone() for key, tensor in network.state_dict().items()}
        for name, network in model.networks.items()
    }
    run(engine, work, steps=2, width=64, height=64, previews=PreviewSettings(1))
    assert engine._model is model
    for name, network in model.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(before[name][key], tensor)


def test_the_fastest_numbers_are_measured_once(work, monkeypatch):
    engine = Engine("cpu")
    first, report = run(
        engine, work, steps=1, width=64, height=64, precision=PrecisionMode.FASTEST
    )
    again, second = run(
        engine, work, steps=1, width=64, height=64, precision=PrecisionMode.FASTEST
    )
    assert report.timings.load > 0
    assert second.timings.load == 0
    assert first[-1].data == again[-1].data
    assert data_types_of(report)[ModelPart.DENOISER] in {
        TensorDataType.FLOAT32,
        TensorDataType.BFLOAT16,
    }
    assert next(event.cached for event in again if isinstance(event, TextEncoded))


def test_too_many_steps_are_refused(engine, work):
    with pytest.raises(InvalidArgument):
        run(engine, work, steps=5000, scheduler=SchedulerSettings(Scheduler.DDIM))


def test_too_much_clip_skip_is_refused(engine, work):
    run(engine, work, clip_skip=3, steps=1, width=64, height=64)
    with pytest.raises(InvalidArgument):
        run(engine, work, clip_skip=4)


def test_lost_tokens_are_told(draw):
    report = draw(prompt="apple " * 90, steps=1, width=64, height=64).report
    assert [entry.kind for entry in report.degradations] == [DegradationKind.PROMPT_TRUNCATED]
    assert draw(steps=1, width=64, height=64).report.degradations == ()


@pytest.mark.parametrize(
    ("format", "prompt", "told"),
    [
        (ImageFileFormat.JPEG, "\N{DOG FACE}" * 10_000, ["only the shorter form"]),
        (ImageFileFormat.JPEG, "apple", []),
        (ImageFileFormat.PNG, "\N{DOG FACE}" * 10_000, []),
    ],
)
def test_parameters_that_a_file_has_no_room_for_are_told_once(draw, format, prompt, told):
    output = OutputSettings(format)
    small = {"steps": 1, "width": 64, "height": 64, "seeds": (1, 2)}
    report = draw(prompt=prompt, output=output, **small).report
    kind = DegradationKind.PARAMETERS_OMITTED
    notes = [note.detail for note in report.degradations if note.kind is kind]
    assert len(notes) == len(told)
    assert all(part in note for part, note in zip(told, notes, strict=True))


def test_latents_that_are_not_finite_are_refused(engine, work, monkeypatch):
    def broken(*_arguments, **_options):
        return torch.full((1, 4, 8, 8), float("nan"))

    monkeypatch.setattr(drawing, "denoise", broken)
    with pytest.raises(FailedPrecondition) as caught:
        run(engine, work, width=64, height=64)
    assert caught.value.reason is Reason.NON_FINITE_OUTPUT


def test_an_overflowing_vae_is_run_again_in_float32(work, monkeypatch):
    engine = Engine("cpu")
    run(engine, work, steps=1, width=64, height=64)
    model = engine._model
    model.vae_numerics = Numerics(torch.float16)
    apply(model.networks["vae"], model.vae_numerics)
    real, asked = decoding.decode, []

    def overflowing(vae, latents, config, numerics):
        asked.append(numerics.data_type)
        if numerics.data_type is torch.float16:
            return torch.full((1, 3, 64, 64), float("inf"))
        return real(vae, latents, config, numerics)

    monkeypatch.setattr(decoding, "decode", overflowing)
    _, report = run(engine, work, steps=1, width=64, height=64)
    assert asked == [torch.float16, torch.float32]
    assert [entry.kind for entry in report.degradations] == [DegradationKind.DATA_TYPE]
    assert data_types_of(report)[ModelPart.VAE] is TensorDataType.FLOAT32
    monkeypatch.setattr(decoding, "decode", lambda *_: torch.full((1, 3, 8, 8), float("nan")))
    with pytest.raises(FailedPrecondition) as caught:
        run(engine, work, steps=1, width=64, height=64)
    assert caught.value.reason is Reason.NON_FINITE_OUTPUT


def test_weights_that_overflow_in_half_precision_draw_as_in_float32(work):
    """Nothing stands in here: a layer of the VAE gives more than 16 bits hold."""

    def drawn(data_type):
        engine = Engine("cpu")
        engine.load(LoadJob("emoji-xl", ModelPlace.of(MODEL)), Listener())
        model = engine._model
        vae = model.networks["vae"]
        with torch.no_grad():
            vae.decoder.mid_block.resnets[0].conv2.weight *= 1e5
        model.vae_numerics = Numerics(data_type)
        apply(vae, model.vae_numerics)
        events, report = run(engine, work, steps=1, width=64, height=64)
        pixels = np.asarray(Image.open(io.BytesIO(events[-1].data))).astype(int)
        return pixels, [entry.kind for entry in report.degradations]

    half, told = drawn(torch.float16)
    whole, nothing = drawn(torch.float32)

    assert (told, nothing) == ([DegradationKind.DATA_TYPE], [])
    assert np.abs(half - whole).max() <= 2  # the weights were rounded to 16 bits


@pytest.mark.parametrize(("said", "data_type"), [(False, torch.float16), (True, torch.float32)])
def test_a_vae_that_says_it_does_not_overflow_is_believed(said, data_type):
    card = traits_of(torch.device("cuda"))
    assert vae_numerics(card, {"force_upcast": said}).data_type is data_type


def test_running_out_of_memory_is_told_and_survived(engine, work, monkeypatch):
    def hungry(*_arguments, **_options):
        return torch.empty(1 << 50, dtype=torch.uint8)

    monkeypatch.setattr(drawing, "denoise", hungry)
    with pytest.raises(ResourceExhausted) as caught:
        run(engine, work)
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert caught.value.metadata["needed_bytes"] == str(1 << 50)
    assert caught.value.__context__ is None
    monkeypatch.undo()
    events, _ = run(engine, work, steps=1, width=64, height=64)
    assert isinstance(events[-1], EncodedImage)


def test_a_lost_device_is_said_though_nothing_can_be_given_back(engine, work, monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(drawing, "denoise", broken)
    monkeypatch.setattr(engine_module, "release_memory", broken)
    monkeypatch.setattr(faults, "in_main_memory", lambda _device: False)
    with pytest.raises(DeviceLost):
        run(engine, work)


def test_a_defect_stays_a_defect(engine, work, monkeypatch):
    def defective(*_arguments, **_options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(drawing, "denoise", defective)
    with pytest.raises(RuntimeError, match="shapes"):
        run(engine, work)


def test_unloading_lets_the_model_go(work):
    engine = Engine("cpu")
    engine.load(LoadJob("emoji-xl", ModelPlace.of(MODEL)), Listener())
    assert engine.loaded_path == MODEL
    events, _ = run(engine, work, steps=1, width=64, height=64)
    assert not any(isinstance(event, TransferProgress) for event in events)
    engine.unload()
    assert engine.loaded_path is None
