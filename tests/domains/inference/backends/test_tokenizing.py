"""Tokenizers built from checked values give the tokens of the library's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.tokenizing import Tokenizer, build_tokenizer
from domains.model.backends.tokenizer_files import read_tokenizer
from domains.weighted_prompts import Piece
from tests.domains.model.disk import DEMO, edit, files_at

TEXTS = (
    "",
    "a red apple",
    "A Café - naïve \N{GRINNING FACE} don't 123",
    "<|endoftext|> within <|startoftext|>",
    "far more tokens than fit " * 30,
    "日本語 テスト",
    "<|new|> tokens !! ! <pad> [b]",
)
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False}
START, END = "<|startoftext|>", "<|endoftext|>"
ENCODER = {"vocab_size": 1 << 20, "max_position_embeddings": 77}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "tokenizer"
    shutil.copytree(DEMO / "tokenizer", copy)
    return copy


def configure(folder: Path, **values: Any) -> None:
    edit(folder / "tokenizer_config.json", **values)


def halves(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def as_of_2022(folder: Path) -> None:
    """As the first repositories of Stable Diffusion have it."""
    halves(folder)
    start = {"content": START, "normalized": True, **FLAGS}
    end = {**start, "content": END}
    special = {"bos_token": start, "eos_token": end, "pad_token": END, "unk_token": end}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    configure(
        folder,
        add_prefix_space=False,
        bos_token={"__type": "AddedToken", **start},
        do_lower_case=True,
        errors="replace",
        name_or_path="openai/clip-vit-large-patch14",
        special_tokens_map_file="./special_tokens_map.json",
    )


def listed(folder: Path) -> None:
    tokens = {"0": START, "1": END}
    kept = {
        number: {"content": text, "normalized": False, "special": True, **FLAGS}
        for number, text in tokens.items()
    }
    configure(folder, added_tokens_decoder=kept)


def added_file(folder: Path) -> None:
    halves(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<|new|>": 2261, "[b]": 5000}))


def padded_by_itself(folder: Path) -> None:
    edit(
        folder / "tokenizer.json",
        padding={
            "strategy": {"Fixed": 77},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "!",
        },
        truncation={
            "direction": "Left",
            "max_length": 20,
            "strategy": "LongestFirst",
            "stride": 0,
        },
    )


def merges_as_lines(folder: Path) -> None:
    whole = json.loads((folder / "tokenizer.json").read_text())
    merges = whole["model"]["merges"]
    whole["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    (folder / "tokenizer.json").write_text(json.dumps(whole))


VARIANTS: dict[str, Callable[[Path], object]] = {
    "as it is": lambda folder: None,
    "vocabulary and merges": halves,
    "of 2022": as_of_2022,
    "tokens listed": listed,
    "tokens listed, halves": lambda folder: (listed(folder), halves(folder)),
    "another padding": lambda folder: configure(folder, pad_token="!"),
    "a new padding": lambda folder: configure(folder, pad_token="<pad>"),
    "added tokens": added_file,
    "extra": lambda folder: configure(folder, additional_special_tokens=["<|new|>", "[b]"]),
    "from the left": lambda folder: configure(folder, padding_side="left"),
    "padded by itself": padded_by_itself,
    "no configuration": lambda folder: (folder / "tokenizer_config.json").unlink(),
    "no end": lambda folder: configure(folder, model_max_length=int(1e30)),
    "a short window": lambda folder: configure(folder, model_max_length=20),
    "special tokens split": lambda folder: configure(folder, split_special_tokens=True),
    "merges as lines": merges_as_lines,
}


def built(folder: Path, **encoder: int) -> Tokenizer:
    return build_tokenizer(
        read_tokenizer(files_at(folder.parent), folder.name, "text_encoder"), ENCODER | encoder
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_those_of_the_library(folder: Path, variant: str) -> None:
    VARIANTS[variant](folder)
    kind: Any = CLIPTokenizer
    reference = kind.from_pretrained(str(folder), local_files_only=True)
    plan = read_tokenizer(files_at(folder.parent), folder.name, "text_encoder")
    ours = build_tokenizer(plan, ENCODER)

    assert ours.library.get_vocab() == reference.get_vocab()
    assert plan.largest_id == max(reference.get_vocab().values())
    window = min(reference.model_max_length, 77)
    assert ours.window == window
    for text in TEXTS:
        expected = reference(
            text,
            padding="max_length",
            max_length=window,
            truncation=True,
        ).input_ids
        encoded = ours.encode(text)
        assert [list(chunk.ids) for chunk in encoded.chunks] == [expected], text
        whole = reference(text, truncation=False, verbose=False).input_ids
        assert encoded.lost == max(len(whole) - window, 0)
        if not encoded.lost:
            assert ours.encode_sections([(Piece(text),)], 3) == encoded, text


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (
            "pre_tokenizer",
            {
                "type": "Split",
                "pattern": {"Regex": "((("},
                "behavior": "Removed",
                "invert": False,
            },
        ),
        ("normalizer", {"type": "Replace"}),
        ("post_processor", {"type": "RobertaProcessing"}),
        ("decoder", {"type": "Strip", "content": 5}),
    ],
)
def test_a_damaged_pipeline_is_the_models_fault(folder: Path, part: str, value: Any) -> None:
    edit(folder / "tokenizer.json", **{part: value})
    with pytest.raises(FailedPrecondition) as caught:
        built(folder)
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID
    assert caught.value.metadata["component"] == "tokenizer"
    assert caught.value.metadata["cause"]


def test_tokens_that_the_encoder_does_not_know_are_refused_when_built(folder: Path) -> None:
    built(folder, vocab_size=2261)
    with pytest.raises(FailedPrecondition) as caught:
        built(folder, vocab_size=2260)
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID


def test_a_token_that_appears_later_never_reaches_the_encoder(folder: Path) -> None:
    tokenizer = built(folder, vocab_size=2261)
    tokenizer.library.add_tokens(["beyond"])
    with pytest.raises(FailedPrecondition) as caught:
        tokenizer.encode("beyond")
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID
    assert caught.value.metadata["component"] == "tokenizer"
    tokenizer.encode("an apple")


def test_what_the_library_raises_at_use_is_the_models_fault(folder: Path) -> None:
    tokenizer = built(folder)
    tokenizer.library.pad_token = None
    with pytest.raises(FailedPrecondition) as caught:
        tokenizer.encode("an apple")
    assert caught.value.metadata == {
        "component": "tokenizer",
        "file": "tokenizer",
        "cause": "ValueError",
    }


def test_a_text_is_read_once_while_it_is_among_the_newest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, asked = built(folder), []
    kind = type(tokenizer.library)
    read = kind.__call__

    def counted(self: Any, text: str, **how: Any) -> Any:
        asked.append(text)
        return read(self, text, **how)

    monkeypatch.setattr(kind, "__call__", counted)
    first = tokenizer.encode("an apple")
    others = [f"{number} pears" for number in range(63)]
    for text in (*others, "an apple", *others[1:]):
        tokenizer.encode(text)
    once = len(asked)
    assert set(asked) == {"an apple", *others}
    assert tokenizer.encode("an apple") == first
    assert len(asked) == once
    tokenizer.encode("a plum")  # one too many: the first pears were asked for longest ago
    assert tokenizer.encode("an apple") == first
    tokenizer.encode(others[0])
    assert asked[once:].count("an apple") == 0
    assert asked[-1] == others[0]
