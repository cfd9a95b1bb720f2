"""What the catalogue says of files as people have them: kind, prediction, words, remarks."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Reason
from domains.inference.types import Scheduler
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.families.formulations import DRAWN_WITH, stand_in
from domains.model.backends.safetensors_header import read_header
from domains.model.convert import model_to_proto
from domains.model.types import Architecture, Model, ModelFormat, ModelType, PredictionType
from domains.values import TensorDataType
from tests.domains.model.corpus.gfpgan import narrow
from tests.domains.model.corpus.kinds import kinds, write
from tests.domains.model.disk import DEMO, edit, files_at, sketch_demo, write_safetensors

MODELS = DEMO.parent
SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
V, EPSILON = PredictionType.V_PREDICTION, PredictionType.EPSILON


def scan(root: Path) -> dict[str, Model]:
    return {model.model_id: model for model in DiskScanner([root]).scan().models}


def listed(root: Path, name: str) -> Model:
    """A kind of the corpus, written and found."""
    write(root, name)
    return scan(root)[name]


def reason(model: Model) -> Reason | None:
    return model.problem.reason if model.problem else None


def sketched(root: Path, source: Path, *, name: str = "model", **metadata: str) -> Path:
    """A demo file's header over holes, with other texts about itself."""
    header = read_header(files_at(source))
    return write_safetensors(
        root / f"{name}.safetensors",
        {tensor.name: tensor.shape for tensor in header.tensors},
        metadata=header.metadata | metadata,
    )


def test_every_demo_file_is_recognised_for_what_it_is() -> None:
    models = scan(MODELS)

    assert {
        name: (model.type, model.architecture, model.kind) for name, model in models.items()
    } == {
        "compact-2x": (ModelType.UPSCALER, None, "Compact"),
        "compact-4x": (ModelType.UPSCALER, None, "Compact"),
        "emoji-canny": (ModelType.CONTROL_NET, SDXL, ""),
        "emoji-comic": (ModelType.CHECKPOINT, SDXL, ""),
        "emoji-embedding": (ModelType.EMBEDDING, SDXL, "textual inversion"),
        "emoji-refiner": (ModelType.REFINER, SDXL, ""),
        "emoji-sd1": (ModelType.CHECKPOINT, SD1, ""),
        "emoji-vae": (ModelType.VAE, SDXL, ""),
        "emoji-xl": (ModelType.CHECKPOINT, SDXL, ""),
        "line-art": (ModelType.LORA, SDXL, "LoCon"),
        "pixel-art": (ModelType.LORA, SDXL, "LoCon"),
    }
    for name in ("line-art", "pixel-art"):
        lora = models[name]
        assert (lora.lora_rank, lora.lora_alpha) == (8, 8.0)
    assert models["line-art"].trigger_words == ("line art style",)
    enlarged = {n: m.enlargement.factor for n, m in models.items() if m.enlargement}
    assert enlarged == {"compact-2x": 2, "compact-4x": 4}
    waiting = {name for name, model in models.items() if model.remarks}
    assert waiting == models.keys() - {
        "emoji-canny",
        "emoji-embedding",
        "emoji-xl",
        "emoji-comic",
        "emoji-sd1",
        "emoji-vae",
        "compact-2x",
        "compact-4x",
        "line-art",
        "pixel-art",
    }
    assert all(model.usable for model in models.values())
    shared = models["emoji-refiner"].remarks[0]
    assert shared.startswith("It has no text_encoder_2 and vae of its own")


def test_a_large_checkpoint_costs_as_much_as_its_header(tmp_path: Path) -> None:
    path = write(tmp_path, "sdxl")

    model = scan(tmp_path)["sdxl"]

    assert path.stat().st_size > 6_000_000_000
    assert path.stat().st_blocks * 512 < 2_000_000
    assert (model.type, model.architecture) == (ModelType.CHECKPOINT, SDXL)
    assert (model.native_width, model.native_height) == (1024, 1024)
    assert model.parameter_count > 3_400_000_000


@pytest.mark.parametrize("name", ["sdxl-v", "sdxl"])
def test_markers_without_numbers_tell_the_prediction(tmp_path: Path, name: str) -> None:
    model = listed(tmp_path, name)

    marked = name == "sdxl-v"
    assert model.prediction_type is (V if marked else EPSILON)
    assert model.zero_terminal_snr is marked


@pytest.mark.parametrize("name", ["playground-2.5", "cosxl"])
def test_another_formulation_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (model,) = (write(tmp_path, name), *scan(tmp_path).values())[1:]

    assert reason(model) is Reason.MODEL_INCOMPATIBLE
    assert model.problem is not None
    assert "EDM" in model.problem.message
    assert model.kind in model.problem.message


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("flux-dev-original", "Flux"),
        ("sd3-diffusers", "SD 3.x"),
        ("wan-original", "Wan"),
        ("unet-kolors-diffusers", "Kolors"),
        ("lora-kohya-flux", "Flux"),
        ("vae-16", "SD3 or Flux"),
        ("control-flux", "Flux"),
    ],
)
def test_another_family_is_refused_by_name(tmp_path: Path, name: str, family: str) -> None:
    model = listed(tmp_path, name)

    assert reason(model) is Reason.MODEL_FORMAT_UNSUPPORTED
    assert model.problem is not None
    assert family in model.problem.message
    assert "SDXL, SD 1.x and SD 2.x" in model.problem.message


def test_quantised_weights_are_refused_by_the_way_they_are_quantised(tmp_path: Path) -> None:
    nf4 = listed(tmp_path, "flux-nf4")
    shapes = kinds()["sd1"].shapes
    write_safetensors(
        tmp_path / "int8.safetensors",
        shapes | {"model.diffusion_model.out.2.SCB": (4,)},
        data_types={"model.diffusion_model.out.2.weight": "I8"},
    )

    int8 = scan(tmp_path)["int8"]

    assert "Flux" in nf4.problem.message if nf4.problem else False
    assert reason(int8) is Reason.MODEL_DTYPE_UNSUPPORTED
    assert "int8 (bitsandbytes)" in int8.problem.message if int8.problem else False


def test_eight_bit_weights_are_told(tmp_path: Path) -> None:
    assert listed(tmp_path, "sdxl-fp8").data_type is TensorDataType.FLOAT8_E4M3
    assert listed(tmp_path, "sdxl-scaled-fp8").data_type is TensorDataType.FLOAT8_E5M2


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("sdxl-instruct", "a picture to change"),
        ("sd1-instruct", "a picture to change"),
        ("sd2-depth", "a depth map"),
        ("sdxl-unet", "no text encoder and no VAE"),
        ("control-lora", "control-LoRA"),
        ("control-lllite", "ControlNet-LLLite"),
        ("motion-module", "AnimateDiff"),
    ],
)
def test_what_cannot_draw_from_text_says_why(tmp_path: Path, name: str, what: str) -> None:
    model = listed(tmp_path, name)

    assert model.problem is not None
    assert what in model.problem.message


@pytest.mark.parametrize("name", ["control-union", "span", "clip-l", "codeformer"])
def test_what_waits_for_a_feature_is_usable_and_says_so(tmp_path: Path, name: str) -> None:
    model = listed(tmp_path, name)

    assert model.usable
    assert model.remarks
    assert all(remark.endswith(".") for remark in model.remarks)


def test_a_face_restorer_is_listed_whole_or_with_what_it_lacks(tmp_path: Path) -> None:
    partial = listed(tmp_path, "gfpgan")

    assert reason(partial) is Reason.MODEL_INCOMPLETE
    write_safetensors(tmp_path / "whole.safetensors", narrow())
    whole = scan(tmp_path)["whole"]
    assert (whole.type, whole.kind, whole.usable) == (ModelType.FACE_RESTORER, "GFPGAN", True)
    assert whole.parameter_count == sum(map(math.prod, narrow().values()))
    assert not whole.remarks


@pytest.mark.parametrize("name", ["sdxl-inpainting", "sd1-inpainting", "sd2-inpainting"])
def test_what_fills_in_masks_is_whole_and_says_so(tmp_path: Path, name: str) -> None:
    model = listed(tmp_path, name)

    assert model.usable, model.problem
    assert model.inpainting
    assert any("masked part" in remark for remark in model.remarks)
    assert {part.name for part in model.components} >= {"unet", "vae", "text_encoder"}


CONFIG = """\
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085  # comment
"""
SGM = """\
model:
  params:
    denoiser_config:
      params:
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling
"""


@pytest.mark.parametrize("text", [CONFIG, SGM, CONFIG.replace('"v"', "v # velocity")])
@pytest.mark.parametrize("ending", [".yaml", ".yml"])
def test_the_configuration_beside_a_file_tells_what_it_predicts(
    tmp_path: Path, text: str, ending: str
) -> None:
    sketched(tmp_path, MODELS / "emoji-comic.safetensors")
    before = scan(tmp_path)["model"]
    (tmp_path / f"model{ending}").write_text(text)

    after = scan(tmp_path)["model"]

    assert before.prediction_type is EPSILON
    assert after.prediction_type is V
    assert any(".yaml" in remark for remark in after.remarks) or not after.usable


def test_a_configuration_that_comes_later_is_seen(tmp_path: Path) -> None:
    scanner = DiskScanner([tmp_path])
    sketched(tmp_path, MODELS / "emoji-comic.safetensors")
    scanner.scan()
    (tmp_path / "model.yaml").write_text(CONFIG)

    (model,) = scanner.scan().models

    assert model.prediction_type is V


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"- [", b"parameterization: x" * 9999])
def test_a_configuration_that_says_nothing_changes_nothing(
    tmp_path: Path, content: bytes
) -> None:
    sketched(tmp_path, MODELS / "emoji-comic.safetensors")
    (tmp_path / "model.yaml").write_bytes(content)

    assert scan(tmp_path)["model"].prediction_type is EPSILON


def test_a_configuration_outside_the_root_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sketched(root, MODELS / "emoji-comic.safetensors")
    (tmp_path / "model.yaml").write_text(CONFIG)
    (root / "model.yaml").symlink_to(tmp_path / "model.yaml")

    model = scan(root).get("model")

    assert model is None or model.prediction_type is EPSILON


def test_what_sd2_predicts_is_told_by_its_words_or_left_open(tmp_path: Path) -> None:
    shapes = kinds()["sd2"].shapes
    write_safetensors(tmp_path / "open.safetensors", shapes)
    for name in ("stable-diffusion-v2-768-v", "stable-diffusion-v2-512"):
        write_safetensors(
            tmp_path / f"{name}.safetensors",
            shapes,
            metadata={"modelspec.architecture": name},
        )

    models = scan(tmp_path)

    assert {model.architecture for model in models.values()} == {SD2}
    assert models["stable-diffusion-v2-768-v"].prediction_type is V
    assert models["stable-diffusion-v2-768-v"].native_width == 768


LORA_WORDS: list[tuple[dict[str, str], tuple[str, ...]]] = [
    ({}, ()),
    ({"ss_tag_frequency": ""}, ()),
    ({"ss_tag_frequency": "{}"}, ()),
    ({"ss_tag_frequency": "null"}, ()),
    ({"ss_tag_frequency": "[1, 2]"}, ()),
    ({"ss_tag_frequency": '{"img": null}'}, ()),
    ({"ss_tag_frequency": '{"img": {"cat": "many", "dog": -1}}'}, ()),
    ({"ss_tag_frequency": '{"img": {"cat": 1e999}}'}, ()),
    ({"ss_tag_frequency": "{" * 9000}, ()),
    ({"ss_tag_frequency": '{"img": {"cat'}, ()),
    (
        {"ss_tag_frequency": '{"a": {"cat": 9, "dog": 2}, "b": {"cat": 1, "sun": 8}}'},
        ("cat", "sun"),
    ),
    ({"ss_tag_frequency": json.dumps({"a": {"ink\nstyle": 3}})}, ("ink style",)),
]


@pytest.mark.parametrize(("metadata", "words"), LORA_WORDS)
def test_words_of_training_are_sane_whatever_stands_there(
    tmp_path: Path, metadata: dict[str, str], words: tuple[str, ...]
) -> None:
    shapes: dict[str, tuple[int, ...]] = {"lora_unet_x.lora_down.weight": (8, 8)}
    write_safetensors(tmp_path / "model.safetensors", shapes, metadata=metadata)

    model = scan(tmp_path)["model"]

    assert model.type is ModelType.LORA
    assert model.usable
    assert model.trigger_words == words


@pytest.mark.parametrize(
    ("said", "alpha"),
    [("4", 4.0), ("4.5", 4.5), ("Dynamic", 0.0), ("", 0.0), ("nan", 0.0), ("-1", 0.0)],
)
def test_alpha_is_a_number_or_unknown(tmp_path: Path, said: str, alpha: float) -> None:
    sketched(tmp_path, MODELS / "line-art.safetensors", ss_network_alpha=said)

    assert scan(tmp_path)["model"].lora_alpha == alpha


def test_without_alphwhole_the_rank_and_ranks_may_differ(tmp_path: Path) -> None:
    one: dict[str, tuple[int, ...]] = {
        "lora_unet_a.lora_down.weight": (8, 64),
        "lora_unet_b.lora_down.weight": (8, 64),
    }
    write_safetensors(tmp_path / "one.safetensors", one)
    several = one | {"lora_unet_c.lora_down.weight": (32, 64)}
    write_safetensors(tmp_path / "several.safetensors", several)

    models = scan(tmp_path)

    assert (models["one"].lora_rank, models["one"].lora_alpha) == (8, 8.0)
    assert (models["several"].lora_rank, models["several"].lora_alpha) == (8, 0.0)
    assert "ranks from 8 to 32" in models["several"].remarks[-1]


def test_a_rank_that_cannot_be_is_none(tmp_path: Path) -> None:
    pair: dict[str, tuple[int, ...]] = {"lora_unet_a.lora_down.weight": (1 << 31, 0)}
    write_safetensors(tmp_path / "model.safetensors", pair)

    model = scan(tmp_path)["model"]

    assert (model.lora_rank, model.lora_alpha) == (0, 0.0)
    assert model_to_proto(model).lora_rank == 0


def test_files_of_other_formats_are_listed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "flux.gguf").write_bytes(b"GGUF" + bytes(60))
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07" + bytes(60))

    models = scan(tmp_path)

    assert models["flux"].format is ModelFormat.GGUF
    assert models["net"].format is ModelFormat.ONNX
    assert {reason(model) for model in models.values()} == {Reason.MODEL_FORMAT_UNSUPPORTED}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"_class_name": "EDMEulerScheduler", "sigma_max": 80.0, "sigma_min": 0.002}, "EDM"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "EDM"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 2.5}, "flow matching"),
    ],
)
def test_a_folder_of_another_formulation_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    folder = sketch_demo(tmp_path / "model")
    edit(folder / "scheduler" / "scheduler_config.json", **change)

    (model,) = scan(tmp_path).values()

    assert reason(model) is Reason.MODEL_INCOMPATIBLE
    assert model.problem is not None
    assert named in model.problem.message
    assert change["_class_name"] in model.problem.message


@pytest.mark.parametrize("change", [{"in_channels": 8}, {"time_cond_proj_dim": 256}])
def test_a_folder_whose_unet_takes_more_than_text_is_listed_with_the_reason(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = sketch_demo(tmp_path / "model")
    edit(folder / "unet" / "config.json", **change)

    (model,) = scan(tmp_path).values()

    assert reason(model) is Reason.MODEL_INCOMPATIBLE
    assert not model.inpainting


@pytest.mark.parametrize("name", ["PNDMScheduler", "Strange"])
def test_a_scheduler_that_another_stands_in_for_is_told(tmp_path: Path, name: str) -> None:
    folder = sketch_demo(tmp_path / "model")
    edit(folder / "scheduler" / "scheduler_config.json", _class_name=name)

    (model,) = scan(tmp_path).values()

    assert model.usable
    assert name in model.remarks[0]


def test_the_schedulers_that_nothing_stands_in_for_are_those_drawn_with() -> None:
    assert {scheduler.value for scheduler in Scheduler} == DRAWN_WITH
    assert not any(map(stand_in, DRAWN_WITH))


def test_a_network_without_its_configuration_is_the_same_model(tmp_path: Path) -> None:
    source = MODELS / "emoji-canny" / "diffusion_pytorch_model.safetensors"
    shutil.copy(source, tmp_path / "alone.safetensors")

    model = scan(tmp_path)["alone"]

    assert (model.type, model.architecture) == (ModelType.CONTROL_NET, SDXL)
    assert model.usable
