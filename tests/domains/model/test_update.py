"""What clients say of a model, and what may not be changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Reason
from domains.model.views import ModelFilter
from tests.domains.model.upkeep import (
    Catalogue,
    contents,
    two_models,
    within,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return two_models(tmp_path / "root")


@pytest.mark.parametrize("model_id", ["ink", "emoji"])
async def test_what_is_said_of_a_model_is_kept_beside_it(root: Path, model_id: str) -> None:
    catalogue = Catalogue(root)
    before = await catalogue.models.get(model_id)
    files = contents(root)
    said = await catalogue.say(
        model_id,
        "name tags trigger_words",
        name="Tinte 墨",
        tags=("a", "b"),
        trigger_words=("inked",),
        description="not named in the mask",
    )
    again = await Catalogue(root).models.get(model_id)

    assert (said.name, said.tags, said.trigger_words) == ("Tinte 墨", ("a", "b"), ("inked",))
    assert said.description == before.description
    assert again == said
    assert (said.modified_at, said.size_bytes) == (before.modified_at, before.size_bytes)
    after = contents(root)
    assert after.items() >= files.items()
    (added,) = after.keys() - files.keys()
    assert added.name.endswith(".deviceops.json")
    found = await catalogue.models.search("tinte inked", ModelFilter(tags=("a",)))
    assert [match.model.model_id for match in found.items] == [model_id]
    # One field at a time; what is made empty is as the model's own files say again.
    await catalogue.say(model_id, "description", description="New.\nTwo lines.")
    last = await catalogue.say(model_id, "name tags")
    assert (last.name, last.tags) == (before.name, before.tags)
    assert (last.description, last.trigger_words) == ("New.\nTwo lines.", ("inked",))
    await catalogue.say(model_id, "description trigger_words")
    assert not added.exists()
    assert (await catalogue.models.get(model_id)).description == before.description


async def test_the_first_that_is_said_of_a_model_is_no_trouble(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await Catalogue(root).say("ink", "name", name="New")
    assert caplog.records == []


async def test_a_change_of_what_is_said_is_told(root: Path) -> None:
    catalogue = Catalogue(root)
    await catalogue.ids()
    before = catalogue.models.revision
    await catalogue.say("ink", "name", name="New")
    assert catalogue.models.revision == before + 1


@pytest.mark.parametrize(
    ("fields", "said", "reason", "where"),
    [
        ("", {}, Reason.REQUIRED_FIELD_MISSING, "update_fields"),
        ("license", {}, Reason.FIELDS_CONFLICT, "update_fields"),
        ("name " * 5, {}, Reason.TOO_MANY_ELEMENTS, "update_fields"),
        ("name", {"name": "x" * 257}, Reason.TEXT_TOO_LONG, "model.name"),
        ("name", {"name": "a\nb"}, Reason.TEXT_INVALID, "model.name"),
        ("tags", {"tags": ("x",) * 65}, Reason.TOO_MANY_ELEMENTS, "model.tags"),
        ("tags", {"tags": ("x" * 65,)}, Reason.TEXT_TOO_LONG, "model.tags[0]"),
        ("description", {"description": "\0"}, Reason.TEXT_INVALID, "model.description"),
    ],
)
async def test_what_cannot_be_said_is_refused_with_its_field(
    root: Path, fields: str, said: dict[str, Any], reason: Reason, where: str
) -> None:
    catalogue = Catalogue(root)
    refused = await catalogue.refusal(catalogue.say("ink", fields, **said))

    assert [(v.field, v.reason) for v in refused.violations] == [(where, reason)]
    assert not any(path.suffix == ".json" for path in within(root))


@pytest.mark.parametrize("content", ["", "{", '{"type":"ModelNotes","name":5}', "x" * 70_000])
async def test_notes_that_are_none_cost_the_model_nothing(root: Path, content: str) -> None:
    (root / "ink.safetensors.deviceops.json").write_text(content)
    catalogue = Catalogue(root)

    assert (await catalogue.models.get("ink")).name == "Ink"
    assert (await catalogue.say("ink", "name", name="New")).name == "New"


async def test_notes_that_are_a_link_or_a_pipe_are_left_alone(
    root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"type":"ModelNotes","name":"stolen"}')
    (root / "ink.safetensors.deviceops.json").symlink_to(outside)
    os.mkfifo(root / "sub" / "emoji.deviceops.json")
    catalogue = Catalogue(root)

    assert (await catalogue.models.get("ink")).name == "Ink"
    await catalogue.models.get("emoji")
    await catalogue.say("ink", "name", name="New")
    assert "stolen" in outside.read_text()


@pytest.mark.parametrize("what", ["update", "delete"])
async def test_a_read_only_root_stays_whole(root: Path, what: str) -> None:
    catalogue = Catalogue(root, read_only=(root,))
    call = catalogue.say("ink", "name", name="x") if what == "update" else None
    refused = await catalogue.refusal(call or catalogue.upkeep.delete("ink"))

    assert refused.code == 7
    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert await catalogue.ids() == {"ink", "emoji"}


@pytest.mark.parametrize("what", ["update", "delete"])
async def test_a_root_that_is_a_model_is_neither_changed_nor_deleted(
    root: Path, what: str
) -> None:
    catalogue = Catalogue(root / "sub" / "emoji")
    assert (await catalogue.models.get("emoji")).read_only
    call = catalogue.say("emoji", "name", name="x") if what == "update" else None
    refused = await catalogue.refusal(call or catalogue.upkeep.delete("emoji"))

    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert (root / "sub" / "emoji" / "model_index.json").exists()
