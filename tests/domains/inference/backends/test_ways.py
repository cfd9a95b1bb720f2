"""What a result says of how it was computed is how it was computed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils import _pytree as pytree

from domains.device.jobs import OptimizationJob
from domains.device.types import OptimizationProfile
from domains.errors import Cancelled, FailedPrecondition, Reason
from domains.inference.backends import widening
from domains.inference.backends.compilation import use_code
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.precision import apply
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.jobs import (
    Companion,
    GenerationJob,
    GenerationReport,
    PausedGeneration,
)
from domains.inference.types import AttentionKernel, GuidanceSettings, LoraWeight, Toggle
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage, WorkPaused
from domains.session.types import StepFinished
from domains.values import DegradationKind, ModelPart, ModelPlace, TensorDataType
from tests.domains.inference.backends.test_compiled import Shelf
from tests.domains.inference.backends.test_loras import UNET, random_pair
from tests.domains.inference.backends.test_step_graphs import Replaying
from tests.fakes.jobs import Listener, changed
from tests.fakes.tiny_models import save_sdxl

HALF = Numerics(torch.bfloat16)
F32, BF16 = TensorDataType.FLOAT32, TensorDataType.BFLOAT16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny(work: GenerationJob, folder: Path) -> GenerationJob:
    return changed(work, model_path=folder, model_id="tiny", width=64, height=64, steps=2)


@pytest.fixture
def engine(tiny: GenerationJob) -> Iterator[Engine]:
    """An engine that has the model loaded."""
    engine = Engine("cpu")
    engine.generate(tiny, Listener())
    yield engine
    engine.unload()


def drawn(engine: Engine, job: GenerationJob) -> tuple[GenerationReport, list[bytes]]:
    heard = Listener()
    report = engine.generate(job, heard)
    assert isinstance(report, GenerationReport)
    return report, [each.data for each in heard.events if isinstance(each, EncodedImage)]


def types_of(report: GenerationReport | PausedGeneration, part: ModelPart) -> list[Any]:
    return [each.data_type for each in report.data_types if each.part is part]


def halve(engine: Engine, numerics: Numerics = HALF) -> Any:
    """The model, its UNet in a lower type from here on."""
    model = engine._model
    assert model is not None
    apply(model.networks["unet"], numerics)
    model.unet_numerics = numerics
    return model


def test_the_plain_way(engine: Engine, tiny: GenerationJob) -> None:
    report, _ = drawn(engine, tiny)
    computed = report.computed
    assert computed.attention_kernels == (AttentionKernel.FLASH,)
    assert computed.channels_last == computed.compiled == ()
    assert (computed.attention_sliced, computed.vae_tiled) == (False, False)
    assert types_of(report, ModelPart.DENOISER) == types_of(report, ModelPart.VAE) == [F32]


def test_the_kernel_is_the_one_that_torch_uses(engine: Engine, tiny: GenerationJob) -> None:
    model = engine._model
    assert model is not None
    model.attention_kernels.clear()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        report, _ = drawn(engine, tiny)
    assert report.computed.attention_kernels == (AttentionKernel.MATH,)


def test_looking_at_the_kernels_changes_no_bit(engine: Engine, tiny: GenerationJob) -> None:
    model = engine._model
    assert model is not None
    known = drawn(engine, tiny)[1]
    model.attention_kernels.clear()
    assert drawn(engine, tiny)[1] == known


def test_slices_tiles_and_layout_are_told(engine: Engine, tiny: GenerationJob) -> None:
    engine.optimize(OptimizationJob(OptimizationProfile.LOW_MEMORY), Listener())
    large = replace(tiny, settings=replace(tiny.settings, width=512, height=512, steps=1))
    computed = drawn(engine, large)[0].computed
    assert (computed.attention_sliced, computed.vae_tiled) == (True, True)
    engine.optimize(OptimizationJob(OptimizationProfile.BALANCED), Listener())
    whole = replace(large, settings=replace(large.settings, vae_tiling=Toggle.OFF))
    computed = drawn(engine, whole)[0].computed
    assert (computed.attention_sliced, computed.vae_tiled) == (False, False)
    halve(engine, Numerics(torch.float32, channels_last=True))
    assert drawn(engine, tiny)[0].computed.channels_last == (ModelPart.DENOISER,)


@dataclass
class AsPlain:
    """Code that runs the module itself, for arguments like those it was asked for with."""

    module: nn.Module
    asked: Any
    steady: Sequence[bool] = ()

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return []

    def step(self, tensors: Sequence[torch.Tensor], kept: list[torch.Tensor]) -> Any:
        given = iter(tensors)
        leaves = [
            next(given) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in self.asked.leaves
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self.asked.form)
        return self.module._call_impl(*args, **kwargs)


def watch_for_code(model: Any) -> None:
    """From here on its calls are seen as those that code may be made for."""
    use_code(model.networks["unet"], "", model.unet_numerics, Shelf(), lambda: None)  # type: ignore[arg-type]
    use_code(model.networks["vae"], "decoder", model.vae_numerics, Shelf(), lambda: None)  # type: ignore[arg-type]


def have_code(model: Any) -> None:
    """From here on there is code for all calls that were seen."""
    for module in (model.networks["unet"], model.networks["vae"].decoder):
        call = module._compiled_call_impl
        for key, asked in call._asked.items():
            call._adopted.setdefault(key, AsPlain(module, asked))


COMPILED = (ModelPart.DENOISER, ModelPart.VAE)


def test_compiled_is_what_ran_as_code(engine: Engine, tiny: GenerationJob) -> None:
    model = engine._model
    watch_for_code(model)
    assert drawn(engine, tiny)[0].computed.compiled == ()
    have_code(model)
    computed = drawn(engine, tiny)[0].computed
    assert computed.compiled == COMPILED
    assert computed.attention_kernels == ()
    unguided = changed(tiny, guidance=GuidanceSettings(1.0))
    computed = drawn(engine, unguided)[0].computed
    assert computed.compiled == (ModelPart.VAE,), "there is code for two rows alone"
    assert computed.attention_kernels == (AttentionKernel.FLASH,)
    seamless = changed(tiny, seamless_horizontally=True)
    assert drawn(engine, seamless)[0].computed.compiled == ()
    assert drawn(engine, changed(tiny, seeds=(1, 2)))[0].computed.compiled == COMPILED


def test_a_vae_that_is_widened_does_not_run_as_code(
    engine: Engine, tiny: GenerationJob
) -> None:
    model = engine._model
    assert model is not None
    apply(model.networks["vae"], HALF)
    model.vae_numerics = HALF
    watch_for_code(model)
    drawn(engine, tiny)
    have_code(model)
    assert drawn(engine, tiny)[0].computed.compiled == COMPILED

    def overflow(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * float("nan") if output.dtype is torch.bfloat16 else output

    handle = model.networks["vae"].decoder.register_forward_hook(overflow)  # type: ignore[operator, union-attr]
    for _ in range(2):  # as it overflows, and when it is in float32 already
        report = drawn(engine, tiny)[0]
        assert types_of(report, ModelPart.VAE) == [F32]
        assert report.computed.compiled == (ModelPart.DENOISER,)
    handle.remove()


def test_replayed_calls_are_told_like_others(engine: Engine, tiny: GenerationJob) -> None:
    model = engine._model
    assert model is not None
    model.graphs = StepGraphs(Replaying(), model.device)
    watch_for_code(model)
    drawn(engine, tiny)
    have_code(model)
    for _ in range(3):
        computed = drawn(engine, tiny)[0].computed
        assert computed.compiled == COMPILED
        assert computed.recorded == (ModelPart.DENOISER,)


def overflowing(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """From here on its UNet gives infinities in lower types; the types it was called in."""
    called: list[torch.dtype] = []

    def look(_module: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> Any:
        called.append(inputs[0].dtype)
        return output if inputs[0].dtype is torch.float32 else (output[0] * float("inf"),)

    handle = model.networks["unet"].register_forward_hook(look)
    monkeypatch.setattr(model, "handle", handle, raising=False)
    return called


def test_a_picture_that_overflows_is_denoised_again_in_float32(
    engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lora = tmp_path / "noise.safetensors"
    save_file(random_pair(UNET, (8, 8, 3, 3), 4, None, seed=1), lora)
    with_lora = replace(
        tiny,
        settings=replace(tiny.settings, seeds=(7, 8), loras=(LoraWeight("noise", 1.0, 1.0),)),
        companions=(Companion("noise", ModelType.LORA, ModelPlace.of(lora)),),
    )
    model = halve(engine)
    before = {name: one.clone() for name, one in model.networks["unet"].state_dict().items()}
    plain = drawn(engine, tiny)[1]
    apply(model.networks["unet"], Numerics(torch.float32))
    model.unet_numerics = Numerics(torch.float32)
    wanted = [drawn(engine, with_lora)[1][index] for index in (0, 1)]
    halve(engine)
    called = overflowing(model, monkeypatch)

    report, images = drawn(engine, with_lora)

    for image, other in zip(images, wanted, strict=True):
        # The texts' embeddings stay rounded to the lower type.
        assert np.abs(pixels(image) - pixels(other)).max() <= 2
    assert called == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32] * 2
    assert types_of(report, ModelPart.DENOISER) == [F32]
    [note] = [each for each in report.degradations if each.part is ModelPart.DENOISER]
    assert note.kind is DegradationKind.DATA_TYPE
    assert note.detail == "Denoised in float32, as bfloat16 overflowed."
    model.handle.remove()
    after = model.networks["unet"].state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    report, images = drawn(engine, tiny)
    assert images == plain
    assert types_of(report, ModelPart.DENOISER) == [BF16]


def pixels(png: bytes) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(np.int16)


def test_a_pause_while_it_is_denoised_again_goes_on_in_float32(
    engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = halve(engine)
    overflowing(model, monkeypatch)
    job = replace(tiny, paused_file=tmp_path / "one.paused")
    whole = drawn(engine, job)[1]
    heard = Listener()

    def check_stop() -> None:
        if sum(isinstance(each, StepFinished) for each in heard.events) == 3:
            raise WorkPaused

    heard.check_stop = check_stop
    report = engine.generate(job, heard)
    assert isinstance(report, PausedGeneration)
    assert report.kept_steps == 1
    again, images = drawn(engine, replace(job, kept_steps=1))
    assert images == whole
    assert types_of(again, ModelPart.DENOISER) == [F32]


@pytest.mark.parametrize("how", ["float32 too", "no memory", "stopped"])
def test_a_picture_that_cannot_be_saved_is_a_typed_failure(
    engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    model = halve(engine)
    plain = drawn(engine, tiny)[1]
    overflowing(model, monkeypatch)
    heard = Listener()
    match how:
        case "float32 too":
            unet = model.networks["unet"]
            forward = unet.forward
            monkeypatch.setattr(
                unet, "forward", lambda *a, **k: (forward(*a, **k)[0] * float("nan"),)
            )
        case "no memory":
            widen = apply

            def refuse(network: Any, numerics: Numerics) -> Any:
                if numerics.data_type is torch.float32:
                    raise MemoryError
                return widen(network, numerics)

            monkeypatch.setattr(widening, "apply", refuse)
        case "stopped":

            def check_stop() -> None:
                if sum(isinstance(each, StepFinished) for each in heard.events) == 3:
                    raise Cancelled("Stopped.")

            heard.check_stop = check_stop
    with pytest.raises(Cancelled if how == "stopped" else FailedPrecondition) as error:
        engine.generate(tiny, heard)
    assert how == "stopped" or error.value.reason is Reason.NON_FINITE_OUTPUT
    assert not any(isinstance(each, EncodedImage) for each in heard.events)
    model.handle.remove()
    monkeypatch.undo()
    assert drawn(engine, tiny)[1] == plain


def test_a_picture_of_one_number_is_no_picture(
    engine: Engine, tiny: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = engine._model
    assert model is not None
    decoder: Callable[..., Any] = model.networks["vae"].decoder.forward  # type: ignore
    monkeypatch.setattr(
        model.networks["vae"].decoder, "forward", lambda *a, **k: decoder(*a, **k) * 0 - 1
    )
    with pytest.raises(FailedPrecondition) as error:
        engine.generate(tiny, Listener())
    assert error.value.reason is Reason.NON_FINITE_OUTPUT
