"""VAEs, ControlNets, text encoders and refiners on a device, beside the checkpoints there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetUnionModel
from safetensors.torch import load_file, save_file

from domains.device.jobs import ReleaseJob
from domains.errors import Cancelled, DomainError, FailedPrecondition, Reason
from domains.inference.backends import loader, one_run
from domains.inference.backends.clock import Clock
from domains.inference.backends.engine import Engine
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.backends.vae_part import own_vae
from domains.inference.backends.wanted import WantedModel
from domains.inference.jobs import GenerationJob
from domains.model.backends.component import plan_component
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.networks import build_empty, fill
from domains.model.backends.weight_reading import ParallelReader
from domains.model.jobs import LoadJob
from domains.model.types import ModelType
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelOrigin, ModelPart, ModelPlace, PartDataType, TensorDataType
from tests.domains.model.disk import DEMO, copy_demo, edit, files_at
from tests.domains.model.image_prompts import KINDS as ADAPTERS
from tests.domains.model.image_prompts import adapter_file, encoder_folder
from tests.domains.model.originals import original_control, parts_of, refiner_file
from tests.fakes.jobs import Listener, changed

MODELS = DEMO.parent
VAE = MODELS / "emoji-vae.safetensors"
CANNY = MODELS / "emoji-canny"
CHECKPOINT = LoadJob("good", ModelPlace.of(DEMO))


def job_of(path: Path, type: ModelType, name: str = "part", **fields: Any) -> LoadJob:
    return LoadJob(name, ModelPlace.of(path), model_type=type, **fields)


@pytest.fixture(scope="module")
def one() -> Iterator[Engine]:
    """One engine for all, which keeps its checkpoint."""
    engine = Engine("cpu")
    engine.load(CHECKPOINT, Listener())
    yield engine
    engine.unload()


@pytest.fixture
def own(one: Engine) -> Engine:
    """An engine with a checkpoint and nothing else."""
    one.load(CHECKPOINT, Listener())
    others = {part.model_id for part in one.held()} - {"good"}
    if others:
        one.release(ReleaseJob(tuple(others)), Listener())
    return one


def vae_folder(folder: Path) -> Path:
    return Path(shutil.copytree(DEMO / "vae", folder / "vae"))


def original_canny(folder: Path) -> Path:
    """The demo ControlNet as the original code would have written it."""
    tensors = load_file(CANNY / "diffusion_pytorch_model.safetensors")
    named = {original_control(name): tensor for name, tensor in tensors.items()}
    save_file(named, folder / "canny.safetensors")
    shutil.copy(CANNY / "config.json", folder)
    return folder / "canny.safetensors"


def canny_file(folder: Path) -> Path:
    return Path(
        shutil.copy(CANNY / "diffusion_pytorch_model.safetensors", folder / "c.safetensors")
    )


def text_folder(folder: Path) -> Path:
    return Path(shutil.copytree(DEMO / "text_encoder_2", folder / "encoder"))


def text_file(folder: Path) -> Path:
    save_file(parts_of(DEMO)["text_encoder"], folder / "clip.safetensors")
    return folder / "clip.safetensors"


def union_folder(folder: Path) -> Path:
    """A union of ControlNets, of random numbers."""
    ControlNetUnionModel(
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
        conditioning_embedding_out_channels=(8, 8, 8, 16),
        num_trans_channel=32,
        num_proj_channel=32,
    ).save_pretrained(folder / "union")
    return folder / "union"


def vision_file(folder: Path) -> Path:
    """An image encoder alone, without a configuration beside it."""
    whole = encoder_folder(folder / "whole") / "model.safetensors"
    return Path(shutil.copy(whole, folder / "vision.safetensors"))


def prompt_file(folder: Path, kind: str) -> Path:
    """An IP-Adapter."""
    return adapter_file(folder / "adapter.safetensors", kind)


KINDS: list[tuple[Callable[[Path], Path], ModelType, str]] = [
    (lambda _: VAE, ModelType.VAE, "vae"),
    (vae_folder, ModelType.VAE, "vae"),
    (lambda _: CANNY, ModelType.CONTROL_NET, "controlnet"),
    (canny_file, ModelType.CONTROL_NET, "controlnet"),
    (original_canny, ModelType.CONTROL_NET, "controlnet"),
    (union_folder, ModelType.CONTROL_NET, "controlnet"),
    (
        lambda folder: encoder_folder(folder / "vision"),
        ModelType.IMAGE_ENCODER,
        "image_encoder",
    ),
    (vision_file, ModelType.IMAGE_ENCODER, "image_encoder"),
    *(
        (partial(prompt_file, kind=kind), ModelType.IMAGE_PROMPT_ADAPTER, "image_prompt")
        for kind in ADAPTERS
    ),
    (text_folder, ModelType.TEXT_ENCODER, "text_encoder"),
    (text_file, ModelType.TEXT_ENCODER, "text_encoder"),
]


@pytest.mark.parametrize(("write", "type", "component"), KINDS)
def test_a_network_is_loaded_once_run_once_and_beside_the_checkpoint(
    own: Engine,
    tmp_path: Path,
    offline: None,
    write: Callable[[Path], Path],
    type: ModelType,
    component: str,
) -> None:
    path, heard = write(tmp_path), Listener()
    report = own.load(job_of(path, type, warm_up=True), heard)
    again = own.load(job_of(path, type), Listener())

    (part,) = report.loaded
    plan = plan_component(files_at(path))
    assert (part.model_id, part.component) == ("part", component)
    tensors = (*network(own, path).parameters(), *network(own, path).buffers())
    assert part.size.value == sum(tensor.nbytes for tensor in tensors)
    assert part.size.value >= 4 * plan.parameter_count
    assert part.data_type is TensorDataType.FLOAT32
    assert (report.origin, again.origin) == (ModelOrigin.DISK, ModelOrigin.LOADED)
    assert report.evicted_model_ids == ()
    moved = [event for event in heard.events if isinstance(event, TransferProgress)]
    assert moved[-1].done_bytes == moved[-1].total_bytes == plan.size_bytes
    phases = [event.phase for event in heard.events if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOADING_MODEL, Phase.MEASURING]
    assert own.held()[0].component == component
    assert {each.model_id for each in own.held()} == {"part", "good"}
    same(network(own, path), path)


@pytest.mark.parametrize(
    ("path", "type"),
    [(VAE, ModelType.VAE), (DEMO, ModelType.CHECKPOINT)],
    ids=["a network", "a checkpoint"],
)
def test_a_place_that_the_catalogue_names_anew_is_held_by_its_new_name(
    own: Engine, path: Path, type: ModelType
) -> None:
    own.load(job_of(path, type, "before"), Listener())
    report = own.load(job_of(path, type, "after"), Listener())

    assert report.origin is ModelOrigin.LOADED
    assert {part.model_id for part in report.loaded} == {"after"}
    held = {part.model_id for part in own.held()}
    assert "after" in held
    assert "before" not in held
    released = own.release(ReleaseJob(("after",)), Listener()).released
    assert {part.model_id for part in released} == {"after"}
    assert "after" not in {part.model_id for part in own.held()}


def network(engine: Engine, path: Path) -> torch.nn.Module:
    found = engine._loader.models.at(ModelPlace.of(path))
    assert isinstance(found, LoadedNetwork)
    return found.module


def same(found: torch.nn.Module, path: Path) -> None:
    """It holds the file's numbers."""
    wanted = fill(
        build_empty(plan_component(files_at(path))),
        data_type=torch.float32,
        device=torch.device("cpu"),
        on_bytes=lambda _: None,
    ).state_dict()
    assert wanted
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())


def test_a_refiner_is_loaded_and_run_once(own: Engine, tmp_path: Path, offline: None) -> None:
    path, _ = refiner_file(tmp_path)
    job, heard = job_of(path, ModelType.REFINER, warm_up=True), Listener()
    report = own.load(job, heard)

    assert {part.component for part in report.loaded} == {"unet", "vae", "text_encoder_2"}
    assert PhaseStarted(Phase.MEASURING) in heard.events
    assert own.load(job, Listener()).origin is ModelOrigin.LOADED
    # Whoever wants to draw with it is refused whatever lies there.
    with pytest.raises(FailedPrecondition, match="refiner") as refused:
        own.load(job_of(path, ModelType.CHECKPOINT), Listener())
    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE


def chosen(part: ModelPart, data_type: TensorDataType) -> dict[str, Any]:
    return {"data_types": (PartDataType(part, data_type),)}


def test_it_computes_in_the_type_that_was_chosen(own: Engine) -> None:
    half = chosen(ModelPart.VAE, TensorDataType.BFLOAT16)
    (part,) = own.load(job_of(VAE, ModelType.VAE, **half), Listener()).loaded
    assert part.data_type is TensorDataType.BFLOAT16
    # Whoever leaves it open takes what is there; whoever asks for another type loads again.
    assert own.load(job_of(VAE, ModelType.VAE), Listener()).origin is ModelOrigin.LOADED
    full = chosen(ModelPart.VAE, TensorDataType.FLOAT32)
    (part,) = own.load(job_of(VAE, ModelType.VAE, **full), Listener()).loaded
    assert part.data_type is TensorDataType.FLOAT32
    assert sum(each.model_id == "part" for each in own.held()) == 1
    steering = chosen(ModelPart.DENOISER, TensorDataType.BFLOAT16)
    (part,) = own.load(job_of(CANNY, ModelType.CONTROL_NET, **steering), Listener()).loaded
    assert part.data_type is TensorDataType.BFLOAT16
    unknown = chosen(ModelPart.VAE, TensorDataType.FLOAT16)
    with pytest.raises(FailedPrecondition) as refused:
        own.load(job_of(VAE, ModelType.VAE, **unknown), Listener())
    assert refused.value.reason is Reason.DEVICE_UNSUPPORTED


@pytest.mark.parametrize(
    ("path", "type"),
    [(CANNY, ModelType.VAE), (VAE, ModelType.CONTROL_NET), (VAE, ModelType.TEXT_ENCODER)],
)
def test_files_that_became_another_kind_are_refused(
    own: Engine, path: Path, type: ModelType
) -> None:
    with pytest.raises(FailedPrecondition, match="needed here") as refused:
        own.load(job_of(path, type), Listener())
    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE
    assert_untouched(own)


def test_a_place_of_another_kind_by_now_is_not_served_by_what_lies_there(own: Engine) -> None:
    own.load(job_of(VAE, ModelType.VAE), Listener())
    with pytest.raises(FailedPrecondition):
        own.load(job_of(VAE, ModelType.CONTROL_NET), Listener())
    with pytest.raises(FailedPrecondition):
        own.load(job_of(VAE, ModelType.CHECKPOINT), Listener())
    assert own.load(job_of(VAE, ModelType.VAE), Listener()).origin is ModelOrigin.LOADED


def assert_untouched(engine: Engine) -> None:
    assert {part.model_id for part in engine.held()} == {"good"}
    assert engine.load(CHECKPOINT, Listener()).origin is ModelOrigin.LOADED


@pytest.mark.parametrize("stranger", [True, False])
def test_missing_and_unexpected_tensors_are_named(
    own: Engine, tmp_path: Path, stranger: bool
) -> None:
    tensors = load_file(CANNY / "diffusion_pytorch_model.safetensors")
    tensors["stranger"] = tensors.pop("controlnet_mid_block.bias").clone()
    if not stranger:
        del tensors["stranger"]
    folder = Path(shutil.copytree(CANNY, tmp_path / "canny"))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    heard = Listener()
    with pytest.raises(FailedPrecondition) as refused:
        own.load(job_of(folder, ModelType.CONTROL_NET), heard)
    assert refused.value.reason is Reason.MODEL_INCOMPLETE
    assert "controlnet_mid_block.bias" in refused.value.message
    assert ("stranger" in refused.value.message) is stranger
    assert not any(isinstance(event, TransferProgress) for event in heard.events)
    assert_untouched(own)


def break_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def stop(_file: Path) -> None:
    raise Cancelled("stopped")


@pytest.mark.parametrize("act", [break_off, stop])
def test_a_load_that_breaks_off_leaves_the_others(
    own: Engine, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    path, heard = Path(shutil.copy(VAE, tmp_path)), Listener()

    def act_after_bytes() -> None:
        if any(isinstance(event, TransferProgress) for event in heard.events):
            act(path)

    heard.check_stop = act_after_bytes
    with pytest.raises(DomainError):
        own.load(job_of(path, ModelType.VAE), heard)
    assert any(isinstance(event, TransferProgress) for event in heard.events)
    assert_untouched(own)


def test_a_file_that_changed_is_loaded_again(own: Engine, tmp_path: Path) -> None:
    path = Path(shutil.copy(VAE, tmp_path))
    own.load(job_of(path, ModelType.VAE), Listener())
    tensors = {name: 0.5 * tensor for name, tensor in load_file(VAE).items()}
    save_file(tensors, path, {"deviceops.configuration": "emoji-xl/vae"})
    assert own.load(job_of(path, ModelType.VAE), Listener()).origin is ModelOrigin.DISK
    assert sum(each.model_id == "part" for each in own.held()) == 1
    same(network(own, path), path)


def test_a_configuration_beside_it_that_changed_counts_as_the_file_does(
    own: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "canny.safetensors"
    save_file(load_file(CANNY / "diffusion_pytorch_model.safetensors"), path)
    shutil.copy(CANNY / "config.json", tmp_path)
    edit(tmp_path / "config.json", norm_num_groups=7)
    scanner = DiskScanner([tmp_path])
    (model,) = scanner.scan().models
    assert model.problem is not None
    assert model.problem.reason is Reason.MODEL_CONFIG_INVALID
    edit(tmp_path / "config.json", norm_num_groups=32)
    (model,) = scanner.scan().models
    assert model.usable

    own.load(job_of(path, ModelType.CONTROL_NET), Listener())
    edit(tmp_path / "config.json", norm_eps=0.5)
    again = own.load(job_of(path, ModelType.CONTROL_NET), Listener())
    assert again.origin is ModelOrigin.DISK
    loaded: Any = network(own, path)
    assert loaded.config["norm_eps"] == 0.5


@pytest.mark.parametrize("path", [VAE, CANNY])
def test_numbers_that_are_not_finite_show_when_it_is_run(
    own: Engine, tmp_path: Path, path: Path
) -> None:
    source = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    tensors = load_file(source)
    name = next(name for name in tensors if name.endswith("conv_in.weight"))
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    if path.is_dir():
        target = Path(shutil.copytree(path, tmp_path / "model"))
        save_file(tensors, target / source.name)
    else:
        target = tmp_path / path.name
        save_file(tensors, target, {"deviceops.configuration": "emoji-xl/vae"})
    type = ModelType.CONTROL_NET if path.is_dir() else ModelType.VAE
    own.load(job_of(target, type), Listener())
    with pytest.raises(FailedPrecondition) as refused:
        own.load(job_of(target, type, warm_up=True), Listener())
    assert refused.value.reason is Reason.NON_FINITE_OUTPUT
    assert refused.value.metadata["component"] in ("vae", "controlnet")


def test_a_vae_that_overflows_in_16_bits_computes_in_32_from_then_on(
    own: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = one_run.decode_once

    def overflowing(vae: Any, config: Any) -> torch.Tensor:
        image = decode(vae, config)
        return image if image.dtype is torch.float32 else image * float("inf")

    monkeypatch.setattr(one_run, "decode_once", overflowing)
    half = chosen(ModelPart.VAE, TensorDataType.BFLOAT16)
    own.load(job_of(VAE, ModelType.VAE, warm_up=True, **half), Listener())
    held = {part.model_id: part.data_type for part in own.held()}
    assert held["part"] is TensorDataType.FLOAT32


def test_what_one_work_needs_stays_together_and_the_rest_makes_room(
    own: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Path(shutil.copy(VAE, tmp_path / "idle.safetensors"))
    own.load(job_of(idle, ModelType.VAE, "idle"), Listener())
    monkeypatch.setattr(loader, "fits_beside", lambda *_: False)
    loads, context = own._loader, Listener()
    wanted = [
        WantedModel("good", ModelPlace.of(DEMO)),
        WantedModel("vae", ModelPlace.of(VAE), type=ModelType.VAE),
        WantedModel("canny", ModelPlace.of(CANNY), type=ModelType.CONTROL_NET),
    ]
    checkpoint = loads.ready(wanted[0], context, Clock()).model
    networks = [loads.ready_network(each, context, Clock()).model for each in wanted[1:]]

    def held() -> set[str]:
        return {model.model_id for model in loads.models}

    assert held() == {"good", "vae", "canny"}
    assert checkpoint in loads.models
    # Also when a picture or a decoding needs more.
    loads.make_room_for_picture(own_vae(checkpoint), 2048, 2048)
    checkpoint.make_room()
    assert held() == {"good", "vae", "canny"}
    assert [network.type for network in networks] == [ModelType.VAE, ModelType.CONTROL_NET]
    # For the next work they are as any other.
    loads.models.end_work()
    del checkpoint, networks
    own.load(job_of(idle, ModelType.VAE, "idle"), Listener())
    assert held() == {"idle"}
    own.load(CHECKPOINT, Listener())


def test_what_work_needs_is_not_switched_into_another(
    own: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def never(model: Any, _prepared: Any) -> bool:
        tried.append(model.model_id)
        return False

    monkeypatch.setattr(loader, "missing_beside", lambda *_: 1 << 50)
    monkeypatch.setattr(loader, "can_become", never)
    other = WantedModel("other", ModelPlace.of(copy_demo(tmp_path / "other")))
    loads = own._loader
    loads.ready(WantedModel("good", ModelPlace.of(DEMO)), Listener(), Clock())
    loads.ready_network(
        WantedModel("vae", ModelPlace.of(VAE), type=ModelType.VAE), Listener(), Clock()
    )
    loads.ready(other, Listener(), Clock())
    assert tried == []
    # Nor is a network ever asked whether it can become a checkpoint.
    loads.models.end_work()
    loads.let_go_of(other.place)
    loads.ready(other, Listener(), Clock())
    assert tried == ["good"]
    loads.models.end_work()


def test_all_that_work_uses_is_in_use(own: Engine) -> None:
    seen: list[dict[str, bool]] = []

    class Watching(Listener):
        def emit(self, event: Any) -> None:
            super().emit(event)
            seen.append({part.model_id: part.in_use for part in own.held()})

    own.load(job_of(VAE, ModelType.VAE, warm_up=True), Watching())
    assert seen[-1] == {"part": True, "good": False}
    assert not any(part.in_use for part in own.held())


def test_memory_that_runs_out_costs_the_others_first(
    own: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loader.load_network, []

    def short_once(*arguments: Any, **how: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        return real(*arguments, **how)

    monkeypatch.setattr(loader, "load_network", short_once)
    report = own.load(job_of(VAE, ModelType.VAE), Listener())
    assert len(calls) == 2
    assert report.evicted_model_ids == ("good",)
    assert {part.model_id for part in own.held()} == {"part"}


def test_it_leaves_and_comes_back_as_it_was(own: Engine, work: GenerationJob) -> None:
    half = chosen(ModelPart.VAE, TensorDataType.BFLOAT16)
    own.load(job_of(VAE, ModelType.VAE, **half), Listener())
    report = own.release(ReleaseJob(("part",), reload=True), Listener())
    assert [part.component for part in report.released] == ["vae"]
    back = next(part for part in report.reloaded if part.model_id == "part")
    assert back.data_type is TensorDataType.BFLOAT16
    own.release(ReleaseJob(("part",)), Listener())
    assert_untouched(own)
    small = changed(work, steps=1, width=64, height=64, model_id="good", model_path=DEMO)
    assert own.generate(small, Listener()).origin is ModelOrigin.LOADED


def test_main_memory_reads_the_files_of_folders_of_every_kind() -> None:
    reader = ParallelReader()
    assert [file.name for file in reader.files(ModelPlace.of(CANNY))] == [
        "diffusion_pytorch_model.safetensors"
    ]
    assert [file.name for file in reader.files(ModelPlace.of(VAE))] == [""]
    assert len(reader.files(ModelPlace.of(DEMO))) >= 4
