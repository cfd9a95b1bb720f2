"""Front matter of model cards: text and lists of text, whatever else is written there."""

from __future__ import annotations

from pathlib import Path

from domains.model.backends.folder_model import card_of
from domains.model.backends.model_card import ModelCard
from tests.domains.model.disk import files_at

CARD = """---
title: "Emoji XL"
license: mit
tags:
  - emoji
  - text-to-image
  - emoji
library_name: diffusers
widget:
  - text: "a prompt: with a colon"
    output:
      url: images/a.png
description: >
  Draws emoji
  on coloured backgrounds.
---
title: not this one
"""


def card(tmp_path: Path, text: str | bytes) -> ModelCard:
    """As the catalogue reads it, beside a model without one."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return card_of(files_at(folder))


def test_a_card_as_people_write_them(tmp_path: Path) -> None:
    assert card(tmp_path, CARD) == ModelCard(
        title="Emoji XL",
        license="mit",
        description="Draws emoji on coloured backgrounds.",
        tags=("emoji", "text-to-image"),
    )


def test_lists_on_one_line(tmp_path: Path) -> None:
    assert card(tmp_path, "---\ntags: [a, 'b c', \"d\"]\n---\n").tags == ("a", "b c", "d")


def test_a_card_without_front_matter_says_nothing(tmp_path: Path) -> None:
    assert card(tmp_path, "# Title\nlicense: mit\n") == ModelCard()
    assert card(tmp_path, "") == ModelCard()
    assert card(tmp_path, "---\nlicense: mit\nnever closed\n") == ModelCard()
    assert card_of(files_at(tmp_path / "none")) == ModelCard()
    (tmp_path / "folder" / "README.md").mkdir(parents=True)
    assert card_of(files_at(tmp_path / "folder")) == ModelCard()


def test_what_is_not_understood_is_not_taken_for_text(tmp_path: Path) -> None:
    hostile = "---\ntags: !!python/object/apply:os.system [x]\nlicense: &a mit\n? odd\n---\n"

    read = card(tmp_path, hostile)

    assert read.tags == ("!!python/object/apply:os.system [x]",)
    assert read.license == "&a mit"


def test_texts_are_bounded_and_printable(tmp_path: Path) -> None:
    tags = "".join(f"  - tag{number}\n" for number in range(200))
    text = f"---\ntitle: {'x' * 500}\nlicense: m\x00i\u202et\ntags:\n{tags}---\n"

    read = card(tmp_path, text)

    assert len(read.title) == 128
    assert read.license == "m i t"
    assert len(read.tags) == 64


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    assert card(tmp_path, b"---\nlicense: \xff\xfe\n---\n").license == "\ufffd\ufffd"
