"""What was decided when work was accepted, in the request that begins it anew."""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from domains.inference.types import GenerationRequest, GenerationSettings
from domains.inference.types.batches import (
    BatchItem,
    GenerationBatchRequest,
    as_decided,
    batch_as_decided,
)
from domains.session.core.plan import Decided
from tests.domains.inference.conftest import request

DECIDED = Decided((4, 5, 6), "was-default")


def named(model_id: str, **fields: object) -> GenerationRequest:
    made = request()
    settings: GenerationSettings = replace(made.settings, model_id=model_id, **fields)
    return dataclasses.replace(made, settings=settings)


def test_what_names_no_model_keeps_what_was_the_default() -> None:
    """Whatever that is by now; what names one keeps its own."""
    for model_id, meant in (("", "was-default"), ("mine", "mine")):
        settings = as_decided(named(model_id), DECIDED).settings
        assert (settings.model_id, settings.seeds, settings.seed) == (meant, (4, 5, 6), None)


def test_items_of_a_batch_keep_it_as_far_as_it_is_known() -> None:
    """A batch's main model is its first item's: the default of then, where that names none."""
    for models, meant in (
        (("", "mine", ""), ["was-default", "mine", "was-default"]),
        (("mine", "", ""), ["mine", "", ""]),
    ):
        items = tuple(
            BatchItem(str(at), named(model_id, image_count=1))
            for at, model_id in enumerate(models)
        )
        one = items[0].request
        asked = GenerationBatchRequest(
            *(items[0], items, "items", one.options, one.placement, b"", one.delivery)
        )
        found = batch_as_decided(asked, DECIDED).items
        assert [each.request.settings.model_id for each in found] == meant
        assert [each.request.settings.seeds for each in found] == [(4,), (5,), (6,)]
