"""Fetching from a hub: only what is needed, going on, verified, and clear when it cannot be."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli.choices import UnusableOptions
from server.cli.failures import CallFailed
from server.cli.hub import Repository
from server.cli.model_files import needed
from tests.server.cli.fake_hub import COMMIT, FakeHub

constants = pytest.importorskip("huggingface_hub.constants")
LARGE = os.urandom(3_000_000)
INDEX = json.dumps(
    {
        "_class_name": "StableDiffusionXLPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "image_encoder": [None, None],
    }
).encode()
FILES = {
    "model_index.json": INDEX,
    "README.md": b"card",
    "preview.png": b"picture",
    "handler.py": b"code",
    "model_v1.safetensors": LARGE,
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16.safetensors": LARGE,
    "unet/diffusion_pytorch_model.safetensors": LARGE,
    "unet/diffusion_pytorch_model.bin": LARGE,
    "unet/diffusion_flax_model.msgpack": LARGE,
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"#",
    "image_encoder/config.json": b"{}",
    "old.ckpt": LARGE,
}
NEEDED = [
    "README.md",
    "model_index.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    made = FakeHub(FILES)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # as workers have it
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", made.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        made.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setenv("HF_TOKEN", "secret")
    yield made
    made.shutdown()
    made.server_close()


def test_a_folder_is_fetched_without_what_it_does_not_need(hub: FakeHub) -> None:
    found = Repository("org/model", None)
    here = found.fetch(found.choose(None, pickles=False))

    assert found.commit == COMMIT
    assert sorted(here) == NEEDED
    assert {name: path.read_bytes() for name, path in here.items()} == {
        name: FILES[name] for name in NEEDED
    }
    assert set(hub.fetched) == set(NEEDED)
    assert "Bearer secret" in hub.tokens
    found.discard()
    assert not found.folder.exists()


def test_a_download_that_broke_off_goes_on(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # written as they come
    hub.breaks_after = 100_000
    found = Repository("org/model", "main")
    files = found.choose("model_v1.safetensors", pickles=False)
    with pytest.raises(CallFailed) as caught:  # after as often as the library itself tries
        found.fetch(files)
    assert "goes on" in caught.value.failure.advice
    tried, hub.breaks_after = len(hub.ranges), None
    again = Repository("org/model", "main")
    here = again.fetch(again.choose("model_v1.safetensors", pickles=False))

    assert here["model_v1.safetensors"].read_bytes() == LARGE
    [last] = hub.ranges[tried:]
    assert int(last.removeprefix("bytes=").split("-")[0]) > 50_000


def test_other_bytes_than_stated_are_refused_and_gone(hub: FakeHub) -> None:
    hub.lies = {"model_v1.safetensors", "README.md"}
    found = Repository("org/model", None)
    for name in sorted(hub.lies):
        with pytest.raises(CallFailed) as caught:
            found.fetch(found.choose(name, pickles=False))
        assert "is not what org/model says" in caught.value.failure.message
        assert not (found.folder / name).exists()


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        (401, "RepoNotFound", "HF_TOKEN"),
        (403, "GatedRepo", "Accept them at"),
        (404, "RepoNotFound", "Look at the name"),
        (404, "RevisionNotFound", "--revision"),
    ],
)
def test_a_refusal_says_what_to_do(hub: FakeHub, code: int, name: str, words: str) -> None:
    hub.refusal = (code, name)
    with pytest.raises(CallFailed) as caught:
        Repository("org/model", None)
    assert words in caught.value.failure.advice


def test_without_a_network_it_says_so(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    with pytest.raises(CallFailed) as caught:
        Repository("org/model", None)
    assert f"{nobody} does not answer" in caught.value.failure.message
    assert "HF_ENDPOINT" in caught.value.failure.advice


def test_pickles_come_only_when_they_are_asked_for(hub: FakeHub) -> None:
    found = Repository("org/model", None)
    with pytest.raises(UnusableOptions, match="--allow-pickles"):
        found.choose("old.ckpt", pickles=False)
    assert [file.name for file in found.choose("old.ckpt", pickles=True)] == ["old.ckpt"]
    with pytest.raises(UnusableOptions, match="has no file"):
        found.choose("missing.safetensors", pickles=False)


def test_a_name_that_is_none_is_told(hub: FakeHub) -> None:
    with pytest.raises(UnusableOptions, match="organisation/name"):
        Repository("no such/name/at all", None)


def test_too_small_a_disk_is_told_before_a_byte(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Repository("org/model", None)
    files = found.choose("model_v1.safetensors", pickles=False)
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), {"free": len(LARGE)})()
    )
    with pytest.raises(CallFailed) as caught:
        found.fetch(files)
    assert "free" in caught.value.failure.message
    assert "model_v1.safetensors" not in hub.fetched


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.safetensors", "README.md"], ["a.safetensors"]),
        (
            ["config.json", "diffusion_pytorch_model.safetensors", "x.png"],
            ["config.json", "diffusion_pytorch_model.safetensors"],
        ),
        (
            ["config.json", "model.safetensors", "model.fp16.safetensors"],
            ["config.json", "model.fp16.safetensors"],
        ),
    ],
)
def test_a_model_of_one_network_is_chosen(names: list[str], chosen: list[str]) -> None:
    assert needed(names, lambda _: b"") == chosen


def test_parts_of_weights_come_with_their_index() -> None:
    names = [
        *("model_index.json", "unet/config.json"),
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model.bin.index.json",
    ]
    assert needed(names, lambda _: INDEX) == sorted(names[:-1])


@pytest.mark.parametrize("names", [["x.txt"], ["old.ckpt"], ["a.safetensors", "b.safetensors"]])
def test_what_is_no_model_or_several_is_told(names: list[str]) -> None:
    with pytest.raises(UnusableOptions):
        needed(names, lambda _: b"")
