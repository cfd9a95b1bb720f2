"""Looking through model roots: what is found there, and what is left alone."""

from __future__ import annotations

import json
import logging
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Reason
from domains.model.backends import disk_scanner, root_look
from domains.model.backends.confinement import Root
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.roots import Found
from domains.model.types import Architecture, Model, ModelFormat, ModelType, PredictionType
from domains.values import TensorDataType
from tests.domains.model.disk import DEMO, copy_demo, edit, write_safetensors

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def scan(*folders: Path) -> dict[str, Model]:
    return {model.model_id: model for model in DiskScanner(folders).scan().models}


def only(root: Path) -> Model:
    (model,) = scan(root).values()
    return model


def test_the_demo_model_is_described_from_its_files() -> None:
    model = scan(DEMO.parent)["emoji-xl"]

    assert (model.model_id, model.name) == ("emoji-xl", "emoji-xl")
    assert model.usable
    assert model.type is ModelType.CHECKPOINT
    assert model.architecture is Architecture.SDXL
    assert model.format is ModelFormat.DIFFUSERS_FOLDER
    assert model.prediction_type is PredictionType.EPSILON
    assert (model.native_width, model.native_height) == (256, 256)
    assert model.data_type is TensorDataType.FLOAT16
    assert model.default_scheduler == "EulerDiscreteScheduler"
    assert not model.zero_terminal_snr
    assert not model.inpainting
    files = [file for file in DEMO.rglob("*") if file.is_file()]
    assert model.size_bytes == sum(file.stat().st_size for file in files)
    assert model.modified_at == datetime.fromtimestamp(
        max(file.stat().st_mtime_ns for file in files) / 1e9, UTC
    )


def test_components_have_classes_sizes_and_counts() -> None:
    model = scan(DEMO.parent)["emoji-xl"]
    parts = {part.name: part for part in model.components}

    assert set(parts) == set(json.loads((DEMO / "model_index.json").read_text())) - {
        "_class_name",
        "_diffusers_version",
        "feature_extractor",
        "force_zeros_for_empty_prompt",
        "image_encoder",
    }
    unet = parts["unet"]
    assert unet.class_name == "UNet2DConditionModel"
    file = DEMO / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    assert unet.size_bytes == file.stat().st_size
    # Two bytes a number, and a header of some kilobytes.
    assert 0.95 < unet.parameter_count * 2 / unet.size_bytes < 1
    assert parts["tokenizer"].parameter_count == 0
    assert model.parameter_count == sum(part.parameter_count for part in model.components)


def test_noise_down_to_none_and_inpainting_are_read_from_the_configurations(
    root: Path,
) -> None:
    folder = copy_demo(root / "emoji-xl")
    edit(folder / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=True)
    edit(folder / "unet" / "config.json", in_channels=9)

    model = only(root)

    assert model.zero_terminal_snr
    assert model.inpainting
    assert not model.usable  # its weights are those of another


def test_a_card_names_and_describes(root: Path) -> None:
    folder = copy_demo(root / "emoji-xl")
    (folder / "README.md").write_text("---\ntitle: Emoji\nlicense: mit\ntags: [fun]\n---\n")

    model = only(root)

    assert (model.model_id, model.name) == ("emoji-xl", "Emoji")
    assert (model.license, model.tags) == ("mit", ("fun",))


def test_the_native_size_may_be_given_by_height_and_width(root: Path) -> None:
    folder = copy_demo(root / "wide")
    edit(folder / "unet" / "config.json", sample_size=[32, 64])

    model = only(root)

    assert (model.native_height, model.native_width) == (256, 512)


def test_sd1_and_sd2_are_listed_with_what_they_lack(root: Path) -> None:
    for name, width in (("sd1", 768), ("sd2", 1024)):
        folder = copy_demo(root / name)
        index = folder / "model_index.json"
        edit(index, _class_name="StableDiffusionPipeline", text_encoder_2=[None, None])
        edit(folder / "unet" / "config.json", cross_attention_dim=width)

    models = scan(root)

    assert models["sd1"].architecture is Architecture.SD1
    assert models["sd2"].architecture is Architecture.SD2
    for model in models.values():
        assert model.type is ModelType.CHECKPOINT
        assert model.problem is not None
        assert model.problem.reason is Reason.MODEL_INCOMPATIBLE
        assert "unet" in {part.name for part in model.components}


@pytest.mark.parametrize("shares", [False, True], ids=["its own encoder", "the base's encoder"])
def test_a_refiner_is_recognised_by_its_missing_encoder(root: Path, shares: bool) -> None:
    nothing = [None, None]
    shared: dict[str, object] = {"text_encoder_2": nothing, "requires_aesthetics_score": True}
    folder = copy_demo(root / "refiner")
    edit(
        folder / "model_index.json",
        text_encoder=[None, None],
        tokenizer=[None, None],
        **(shared if shares else {}),
    )

    model = only(root)

    assert model.type is ModelType.REFINER
    assert model.architecture is Architecture.SDXL
    # With an encoder of its own it is told that its UNet is none of a refiner.
    assert model.usable is shares
    if model.problem is not None:
        assert model.problem.reason is Reason.MODEL_INCOMPATIBLE
        assert "another pooled text or size" in model.problem.message
    else:
        assert any("text_encoder_2 of its own" in remark for remark in model.remarks)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "unet" / "config.json").unlink(), Reason.MODEL_INCOMPLETE),
        (lambda f: (f / "unet" / "config.json").write_text("{"), Reason.MODEL_CONFIG_INVALID),
        (lambda f: (f / "model_index.json").write_text("[]"), Reason.MODEL_CONFIG_INVALID),
        (
            lambda f: os.truncate(
                f / "unet" / "diffusion_pytorch_model.fp16.safetensors", 100_000
            ),
            Reason.MODEL_TRUNCATED,
        ),
    ],
)
def test_a_damaged_folder_is_listed_with_its_problem(
    root: Path, damage: object, reason: Reason
) -> None:
    damage(copy_demo(root / "broken"))  # type: ignore[operator]

    model = only(root)

    assert model.model_id == "broken"
    assert model.problem is not None
    assert model.problem.reason is reason
    assert str(root) not in model.problem.message


def test_single_files_are_listed_and_say_why_they_are_not_used(root: Path) -> None:
    write_safetensors(
        root / "style.safetensors",
        LORA,
        data_type="BF16",
        metadata={
            "modelspec.title": "A style",
            "modelspec.tags": "ink, paper",
            "modelspec.trigger_phrase": "inkstyle",
            "modelspec.license": "MIT",
            "modelspec.description": "Ink on paper.",
            "modelspec.resolution": "1024x768",
            "modelspec.prediction_type": "v",
            "log": "x" * 100_000,
        },
    )
    write_safetensors(
        root / "xl.safetensors",
        {
            "model.diffusion_model.b.attn2.to_k.weight": (640, 2048),
            "conditioner.embedders.1.model.ln_final.weight": (1280,),
        },
    )
    write_safetensors(root / "unknown.safetensors", {"lm_head.weight": (4, 4), "x": (1,)})

    models = scan(root)

    style = models["style"]
    assert (style.name, style.type, style.architecture) == (
        "A style",
        ModelType.LORA,
        Architecture.SDXL,
    )
    assert style.format is ModelFormat.SAFETENSORS
    assert (style.tags, style.trigger_words) == (("ink", "paper"), ("inkstyle",))
    assert (style.license, style.description) == ("MIT", "Ink on paper.")
    assert (style.native_width, style.native_height) == (1024, 768)
    assert style.prediction_type is PredictionType.V_PREDICTION
    assert (style.data_type, style.parameter_count) == (TensorDataType.BFLOAT16, 8 * 2048)
    assert (style.lora_rank, models["xl"].lora_rank) == (8, 0)
    assert len(style.metadata["log"]) == 512
    reasons = {name: model.problem.reason for name, model in models.items() if model.problem}
    assert reasons == {
        "xl": Reason.MODEL_INCOMPLETE,
        "unknown": Reason.MODEL_FORMAT_UNSUPPORTED,
    }
    assert "no text_encoder" in _message(models["xl"])
    assert style.usable
    assert style.remarks == ()
    assert "no kind of model" in _message(models["unknown"])
    assert models["unknown"].type is None


def test_a_file_that_is_no_safetensors_is_listed_with_its_problem(root: Path) -> None:
    (root / "page.safetensors").write_text("<!DOCTYPE html><title>Log in</title>")
    (root / "empty.safetensors").touch()

    models = scan(root)

    assert models["page"].problem is not None
    assert models["page"].problem.reason is Reason.MODEL_FORMAT_UNSUPPORTED
    assert models["empty"].problem is not None
    assert models["empty"].problem.reason is Reason.MODEL_TRUNCATED


def test_pickles_are_listed_and_never_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {root / 'owned'}",))

    for ending in ("ckpt", "pt", "PTH", "bin"):
        (root / f"old-{ending}.{ending}").write_bytes(pickle.dumps(Attack()))
    opened: list[str] = []
    original = os.open

    def watched(path: str, flags: int, **options: Any) -> int:
        opened.append(Path(path).suffix.lower())
        return original(path, flags, **options)

    monkeypatch.setattr(os, "open", watched)

    models = scan(root)

    assert set(models) == {"old-ckpt", "old-pt", "old-PTH", "old-bin"}
    for model in models.values():
        assert model.format is ModelFormat.PICKLE
        assert model.problem is not None
        assert model.problem.reason is Reason.MODEL_UNSAFE_PICKLE
    assert opened
    assert not {".ckpt", ".pt", ".pth", ".bin"} & set(opened)
    assert not (root / "owned").exists()


def test_one_name_in_many_places_gives_many_ids(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_safetensors(root / "a.safetensors", LORA)
    write_safetensors(root / "deep" / "A.safetensors", LORA)
    write_safetensors(other / "a.safetensors", LORA)
    (root / "a.ckpt").write_bytes(b"x")
    copy_demo(other / "a")

    first, second = scan(root, other), scan(root, other)

    assert len(first) == 5
    assert first == second
    assert first["a"].format is ModelFormat.DIFFUSERS_FOLDER


def test_libraries_generic_names_give_way_to_the_folders(root: Path) -> None:
    write_safetensors(root / "sharp-vae" / "diffusion_pytorch_model.fp16.safetensors", LORA)
    write_safetensors(root / "ink" / "pytorch_lora_weights.safetensors", LORA)
    write_safetensors(root / "model.safetensors", LORA)

    assert set(scan(root)) == {"sharp-vae", "ink", "model"}


def test_links_that_leave_the_root_are_not_followed(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "root_evil"
    write_safetensors(outside / "x.safetensors", LORA)
    copy_demo(outside / "folder")
    (root / "file.safetensors").symlink_to(outside / "x.safetensors")
    (root / "dir").symlink_to(outside)
    (root / "model").symlink_to(outside / "folder")
    with caplog.at_level(logging.WARNING):
        found = DiskScanner([root]).scan()

    assert found.models == ()
    assert len(found.problems) == 3
    assert all("PATH_OUTSIDE_ROOT" in problem for problem in found.problems)
    assert not any(str(tmp_path) in problem for problem in found.problems)
    assert caplog.text.count("PATH_OUTSIDE_ROOT") == 3
    assert str(root / "dir") in caplog.text


def test_a_folder_with_one_part_outside_is_not_listed(root: Path, tmp_path: Path) -> None:
    folder = copy_demo(root / "half")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "unet" / "config.json").unlink()
    (folder / "unet" / "config.json").symlink_to(secret)

    found = DiskScanner([root]).scan()

    assert found.models == ()
    assert "PATH_OUTSIDE_ROOT" in found.problems[0]


def test_links_inside_the_root_are_followed(root: Path) -> None:
    """A download cache keeps its files under their hashes and links to them."""
    blob = write_safetensors(root / "blobs" / "0123abcd", LORA)
    (root / "style.safetensors").symlink_to(blob)

    model = only(root)

    assert model.model_id == "style"
    assert model.type is ModelType.LORA
    assert model.path == blob


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    write_safetensors(root / "style.safetensors", LORA)
    link = tmp_path / "link"
    link.symlink_to(root)

    assert set(scan(link)) == {"style"}


def test_links_in_circles_end(root: Path) -> None:
    write_safetensors(root / "sub" / "style.safetensors", LORA)
    (root / "sub" / "again").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "gone.safetensors").symlink_to(root / "nothing.safetensors")

    found = DiskScanner([root]).scan()

    assert [model.model_id for model in found.models] == ["style"]
    assert found.problems == ("File 'gone.safetensors' cannot be read.",)


def test_hidden_and_other_files_are_no_models(root: Path) -> None:
    write_safetensors(root / ".git" / "x.safetensors", LORA)
    write_safetensors(root / ".part.safetensors", LORA)
    (root / "notes.txt").write_text("not a model")

    assert scan(root) == {}


def test_a_root_that_is_not_there_is_told(root: Path) -> None:
    found = DiskScanner([root / "none", root]).scan()

    assert found.problems == ("A configured model folder is not there.",)


def test_too_deep_and_too_many_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = root.joinpath(*(f"d{level}" for level in range(9)))
    write_safetensors(deep / "x.safetensors", LORA)
    assert DiskScanner([root]).scan().problems == ("Folder 'd6' lies too deep.",)

    monkeypatch.setattr(root_look, "_MAX_ENTRIES", 3)
    assert "too many files" in DiskScanner([root]).scan().problems[0]


def test_a_folder_that_vanishes_while_it_is_read_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "gone").mkdir()
    original = os.open

    def vanish(path: str, flags: int, **options: Any) -> int:
        if path == "gone":
            (root / "gone").rmdir()
        return original(path, flags, **options)

    monkeypatch.setattr(os, "open", vanish)

    assert DiskScanner([root]).scan().problems == ("Folder 'gone' cannot be read.",)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"caf\xe9", "no text"),
        (b"line\nbreak", "control characters"),
        ("left\u202eright".encode(), "control characters"),
        (b"aux", "Windows"),
        (b"NUL.old", "Windows"),
        (b"what?", "Windows"),
        (b"dot.", "Windows"),
    ],
)
def test_names_that_not_every_machine_can_have_are_left_out_and_told(
    root: Path, name: bytes, why: str
) -> None:
    copy_demo(root / "good")
    try:
        copy_demo(root / os.fsdecode(name))
    except OSError:
        pytest.skip("this file system does not take such a name")

    found = DiskScanner([root]).scan()

    assert [model.model_id for model in found.models] == ["good"]
    (problem,) = found.problems
    assert why in problem
    problem.encode()


def test_unchanged_files_are_not_read_again_and_changed_ones_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_safetensors(root / "style.safetensors", LORA)
    copy_demo(root / "demo")
    scanner = DiskScanner([root])
    first = scanner.scan()
    read: list[str] = []
    for name in ("read_safetensors", "read_folder"):
        original = getattr(disk_scanner, name)

        def counted(found: Found, root: Root, original: object = original) -> Model:
            read.append(found.name)
            model: Model = original(found, root)  # type: ignore[operator]
            return model

        monkeypatch.setattr(disk_scanner, name, counted)

    assert scanner.scan() == first
    assert read == []
    write_safetensors(file, {"clip_l": (1, 768), "clip_g": (1, 1280)})
    second = {model.model_id: model for model in scanner.scan().models}

    assert read == ["style"]
    assert second["style"].type is ModelType.EMBEDDING
    file.unlink()
    assert [model.model_id for model in scanner.scan().models] == ["demo"]


def _message(model: Model) -> str:
    assert model.problem is not None
    return model.problem.message
