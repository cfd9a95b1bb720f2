"""A folder as one file and a file as a folder: the same tensors, read as the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from domains.errors import DataLoss, FailedPrecondition, Reason, ResourceExhausted
from domains.model.backends.component import plan_component
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.inspector import layout_change, room
from domains.model.backends.inspector.conversion import convert
from domains.model.backends.plans import plan_model
from domains.model.jobs import ConversionReport, ConvertJob
from domains.model.types import Model, PredictionType
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelPlace, TensorDataType
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.disk import DEMO, copy_demo, edit, files_at
from tests.domains.model.originals import parts_of

MODELS = DEMO.parent
Tensors = dict[str, torch.Tensor]


def changed(source: Path, target: Path, told: Told | None = None, **changes: Any) -> Path:
    """Convert into the other layout; a target with an ending is a file."""
    folder = target if not target.suffix else target.parent
    folder.mkdir(exist_ok=True, parents=True)
    job = ConvertJob("x", ModelPlace.of(source), folder, target.name, rearrange=True, **changes)
    report: ConversionReport = convert(job, told or Told())
    assert report.size_bytes > 0
    return target


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo folder as one file."""
    return changed(DEMO, tmp_path_factory.mktemp("file") / "xl.safetensors")


def alike(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def same_model(one: Path, other: Path) -> None:
    """Everything that a model is made from, but its numbers."""
    first, second = plan_model(files_at(one)), plan_model(files_at(other))
    assert [n.config for n in first.networks] == [n.config for n in second.networks]
    assert first.tokenizers == second.tokenizers
    assert first.scheduler_config == second.scheduler_config
    assert (first.type, first.architecture) == (second.type, second.architecture)
    flags = [
        {key: value for key, value in plan.index.items() if not isinstance(value, list)}
        for plan in (first, second)
    ]
    assert flags[0] == flags[1]


def listed(path: Path) -> Model:
    (model,) = (m for m in DiskScanner([path.parent]).scan().models if m.place.path == path)
    return model


def test_a_folder_comes_back_from_a_file_bit_by_bit(file: Path, tmp_path: Path) -> None:
    told = Told()
    back = changed(file, tmp_path / "xl", told)

    wanted, found = parts_of(DEMO), parts_of(back)
    assert found.keys() == wanted.keys()
    for part, tensors in wanted.items():
        alike(found[part], tensors)
    same_model(DEMO, back)
    index = json.loads((DEMO / "model_index.json").read_bytes())
    assert json.loads((back / "model_index.json").read_bytes()) == index
    phases = [each.phase for each in told.events if isinstance(each, PhaseStarted)]
    assert phases == [Phase.READING, Phase.WRITING, Phase.VERIFYING]
    progress = [each for each in told.events if isinstance(each, TransferProgress)]
    assert progress[-1].done_bytes == progress[-1].total_bytes > 0


def test_a_file_needs_nothing_beside_it(file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved" / "elsewhere.safetensors"
    alone.parent.mkdir()
    shutil.copyfile(file, alone)

    same_model(DEMO, alone)
    model = listed(alone)
    assert model.usable, model.problem
    folder = listed(DEMO)
    assert model.name == "elsewhere"
    assert (model.native_width, model.default_scheduler) == (
        folder.native_width,
        folder.default_scheduler,
    )
    assert (model.license, model.description) == (folder.license, folder.description)
    assert "deviceops.files" not in model.metadata


@pytest.mark.parametrize("name", ["emoji-comic", "emoji-sd1"])
def test_a_file_comes_back_from_a_folder(tmp_path: Path, name: str) -> None:
    source = MODELS / f"{name}.safetensors"
    folder = changed(source, tmp_path / name)
    back = changed(folder, tmp_path / f"{name}.safetensors")

    same_model(source, folder)
    same_model(source, back)
    wanted = load_file(source)
    # What compares texts with pictures is in no folder.
    wanted.pop("conditioner.embedders.1.model.logit_scale", None)
    alike(load_file(back), wanted)


def test_velocity_and_zero_terminal_snr_go_both_ways(tmp_path: Path) -> None:
    source = copy_demo(tmp_path / "v")
    scheduler = source / "scheduler" / "scheduler_config.json"
    said = json.loads(scheduler.read_bytes())
    said |= {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler.write_text(json.dumps(said))

    path = changed(source, tmp_path / "v.safetensors")

    assert {"v_pred", "ztsnr"} <= load_file(path).keys()
    model = listed(path)
    assert model.prediction_type is PredictionType.V_PREDICTION
    assert model.zero_terminal_snr
    same_model(source, path)
    back = changed(path, tmp_path / "back")
    same_model(source, back)


@pytest.mark.parametrize("to_folder", [True, False])
def test_a_data_type_goes_with_it(file: Path, tmp_path: Path, to_folder: bool) -> None:
    wanted = TensorDataType.BFLOAT16
    if to_folder:
        parts = parts_of(changed(file, tmp_path / "xl", data_type=wanted))
    else:
        path = changed(DEMO, tmp_path / "xl.safetensors", data_type=wanted)
        parts = parts_of(changed(path, tmp_path / "xl"))
    for part, tensors in parts_of(DEMO).items():
        alike(parts[part], {name: tensor.bfloat16() for name, tensor in tensors.items()})
    # It would make the numbers what they were, in programs that heed it.
    config = json.loads((tmp_path / "xl" / "text_encoder" / "config.json").read_bytes())
    assert "dtype" not in config


def test_shards_become_one_file(tmp_path: Path) -> None:
    source = copy_demo(tmp_path / "shards")
    (whole,) = (source / "unet").glob("*.safetensors")
    tensors = load_file(whole)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, source / "unet" / shard)
    whole.unlink()
    places = {name: shard for shard, held in shards.items() for name in held}
    index = source / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))

    path = changed(source, tmp_path / "one.safetensors")

    alike(parts_of(changed(path, tmp_path / "back"))["unet"], tensors)


def test_numbers_of_several_types_do_not_lie_together(tmp_path: Path) -> None:
    source = copy_demo(tmp_path / "mixed")
    (encoder,) = (source / "text_encoder_2").glob("*.safetensors")
    tensors = load_file(encoder)
    name = "text_model.encoder.layers.0.self_attn.k_proj.weight"
    save_file({**tensors, name: tensors[name].float()}, encoder)

    with pytest.raises(FailedPrecondition) as refused:
        changed(source, tmp_path / "one.safetensors")

    assert refused.value.reason is Reason.MODEL_DTYPE_UNSUPPORTED
    assert not (tmp_path / "one.safetensors").exists()
    half = TensorDataType.FLOAT16
    path = changed(source, tmp_path / "one.safetensors", data_type=half)
    alike(parts_of(changed(path, tmp_path / "back"))["text_encoder_2"], tensors)


def test_scaled_numbers_are_multiplied_where_a_type_is_asked_for(tmp_path: Path) -> None:
    source = copy_demo(tmp_path / "scaled")
    (unet,) = (source / "unet").glob("*.safetensors")
    tensors = load_file(unet)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    eight = tensors[f"{name}.weight"].to(torch.float8_e4m3fn)
    scale = torch.tensor(0.37)
    save_file({**tensors, f"{name}.weight": eight, f"{name}.scale_weight": scale}, unet)

    with pytest.raises(FailedPrecondition) as refused:
        changed(source, tmp_path / "one.safetensors")
    assert refused.value.reason is Reason.MODEL_DTYPE_UNSUPPORTED

    whole = TensorDataType.FLOAT32
    path = changed(source, tmp_path / "one.safetensors", data_type=whole)
    found = parts_of(changed(path, tmp_path / "back"))["unet"]
    assert torch.equal(found[f"{name}.weight"], eight.float() * scale)


def test_what_was_written_wrongly_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(sources: Any, target: Path, tensors: Any, metadata: Any, progress: Any) -> None:
        write(sources, target, tensors, metadata, progress)
        raw = bytearray(target.read_bytes())
        raw[-1] ^= 1
        target.write_bytes(raw)

    write = layout_change.write
    monkeypatch.setattr(layout_change, "write", swapped)
    with pytest.raises(DataLoss) as refused:
        changed(MODELS / "emoji-sd1.safetensors", tmp_path / "sd1")
    assert refused.value.reason is Reason.MODEL_CHECKSUM_MISMATCH


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(ResourceExhausted) as refused:
        changed(MODELS / "emoji-sd1.safetensors", tmp_path / "sd1")
    assert refused.value.reason is Reason.DISK_FULL
    assert not list((tmp_path / "sd1").iterdir())


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("vae", Reason.MODEL_INCOMPLETE), ("unet/config.json", Reason.MODEL_INCOMPLETE)],
)
def test_a_folder_that_lacks_a_part_is_refused(
    tmp_path: Path, missing: str, reason: Reason
) -> None:
    source = copy_demo(tmp_path / "less")
    lacking = source / missing
    shutil.rmtree(lacking) if lacking.is_dir() else lacking.unlink()

    with pytest.raises(FailedPrecondition) as refused:
        changed(source, tmp_path / "one.safetensors")

    assert refused.value.reason is reason


def test_a_model_without_a_vae_stays_in_its_layout(tmp_path: Path) -> None:
    source = copy_demo(tmp_path / "bare")
    edit(source / "model_index.json", vae=[None, None])

    with pytest.raises(FailedPrecondition) as refused:
        changed(source, tmp_path / "one.safetensors")

    assert refused.value.reason is Reason.MODEL_INCOMPLETE
    assert refused.value.metadata == {"component": "vae"}


@pytest.mark.parametrize(
    "held", ["{", "[]", '{"unet/config.json": 1}', '{"unet/config.json": "["}']
)
def test_a_header_that_holds_no_configurations_is_refused(
    file: Path, tmp_path: Path, held: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(load_file(file), path, {"format": "pt", "deviceops.files": held})

    with pytest.raises(FailedPrecondition) as refused:
        plan_model(files_at(path))

    assert refused.value.reason is Reason.MODEL_CONFIG_INVALID


def test_names_that_a_header_holds_are_never_written_to(file: Path, tmp_path: Path) -> None:
    held = json.loads(header_of(file)["deviceops.files"])
    names = ("../evil.txt", "/evil.txt", "unet/../../evil.txt", "evil.txt", "unet/evil.py")
    held |= dict.fromkeys(names, "evil")
    path = tmp_path / "odd.safetensors"
    save_file(load_file(file), path, {"format": "pt", "deviceops.files": json.dumps(held)})
    folder = changed(path, tmp_path / "inner" / "folder")

    written = {each for each in tmp_path.rglob("*") if each.is_file()} - {path}
    assert all(each.is_relative_to(folder) for each in written)
    assert not [each for each in written if "evil" in each.name]
    assert not Path("/evil.txt").exists()
    same_model(DEMO, folder)


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    return metadata


@pytest.mark.parametrize("data_type", [None, TensorDataType.FLOAT16])
def test_a_copy_predicts_what_the_configuration_beside_its_source_says(
    file: Path, tmp_path: Path, data_type: TensorDataType | None
) -> None:
    """The copy lies alone: what was said beside the file is said in it."""
    source, root = tmp_path / "source" / "xl.safetensors", tmp_path / "root"
    for folder in (source.parent, root):
        folder.mkdir()
    shutil.copyfile(file, source)
    said = "params:\n  parameterization: v\n  rescale_betas_zero_snr: true\n"
    source.with_suffix(".yaml").write_text(said)
    place = ModelPlace.of(source)
    convert(ConvertJob("x", place, root, "y.safetensors", data_type=data_type), Told())

    for folder in (source.parent, root):
        (model,) = DiskScanner([folder]).scan().models
        assert model.prediction_type is PredictionType.V_PREDICTION
        assert model.zero_terminal_snr
    before, after = (plan_model(files_at(path)) for path in (source, root / "y.safetensors"))
    assert after.scheduler_config == before.scheduler_config


@pytest.mark.parametrize("pickled", [False, True])
def test_a_copy_of_a_network_has_the_configuration_beside_its_source(
    tmp_path: Path, pickled: bool
) -> None:
    """Its shapes do not tell by what its latents are scaled."""
    source, root = tmp_path / "vae", tmp_path / "root"
    shutil.copytree(DEMO / "vae", source)
    (weights,) = source.glob("*.safetensors")
    edit(source / "config.json", scaling_factor=0.5, force_upcast=False)
    wanted = plan_component(files_at(weights)).config
    if pickled:
        torch.save(load_file(weights), source / "vae.bin")
        weights.unlink()
        weights = source / "vae.bin"
    root.mkdir()
    place = ModelPlace.of(weights)
    convert(ConvertJob("x", place, root, "y.safetensors"), Told())

    copy = plan_component(files_at(root / "y.safetensors")).config
    assert copy == wanted
    assert copy["scaling_factor"] == 0.5
