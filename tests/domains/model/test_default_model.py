"""The model that stands for no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.errors import Reason
from tests.domains.model.disk import sketch_demo
from tests.domains.model.upkeep import Catalogue, two_models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return two_models(tmp_path / "root")


async def test_a_model_that_is_made_the_default_is_it_from_then_on(root: Path) -> None:
    sketch_demo(root / "zebra")
    catalogue = Catalogue(root)
    assert (await catalogue.models.get("")).model_id == "emoji"
    chosen = await catalogue.upkeep.choose_default("zebra")

    assert chosen.is_default
    assert (await catalogue.models.get("")).model_id == "zebra"
    assert not (await catalogue.models.get("emoji")).is_default
    for model_id, reason in (
        ("", Reason.REQUIRED_FIELD_MISSING),
        ("ink", Reason.MODEL_NOT_FOUND),
        ("gone", Reason.MODEL_NOT_FOUND),
    ):
        refused = await catalogue.refusal(catalogue.upkeep.choose_default(model_id))
        assert reason in (refused.reason, *(v.reason for v in refused.violations))
    assert (await catalogue.models.get("")).model_id == "zebra"
