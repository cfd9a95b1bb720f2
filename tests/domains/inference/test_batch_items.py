"""Items of durable batches as requests: alone and together they are the same generations."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from deviceops.v1 import batch_pb2, common_pb2, generation_pb2, inference_pb2, session_pb2
from domains.inference.convert.batch_items import GenerationTemplate
from domains.inference.convert.overlays import Layer, check_overlay, laid_over
from domains.processing.batches.types import ItemWork, Settled
from domains.session.core.plan import SessionRequest
from domains.session.types import Priority, WorkOptions
from domains.values import ModelContent

Settings = generation_pb2.GenerationSettings
Overlay = generation_pb2.GenerationOverlay
MODEL = ModelContent("model", 9, "f" * 64)
PICTURE = common_pb2.InputImage(inline=b"a picture")
TEMPLATE = Settings(
    prompt="a pear",
    negative_prompt="blurry",
    seed=7,
    steps=9,
    loras=[{"model_id": "lora"}],
    image_to_image={"image": PICTURE, "strength": 0.5},
)
OVERLAYS = {
    "plain": Overlay(),
    "other": Overlay(settings=Settings(prompt="an apple", seeds=[3, 9], image_count=2)),
    "bare": Overlay(cleared_fields=FieldMask(paths=["negative_prompt", "loras", "seed"])),
    "painted": Overlay(settings=Settings(inpainting={"image": PICTURE, "mask": PICTURE})),
    "same": Overlay(settings=Settings(steps=9, loras=[{"model_id": "lora"}])),
}


def template(started: list[Any], **fields: Any) -> GenerationTemplate:
    """The template of a batch, whose sessions are only noted."""
    message = batch_pb2.CreateBatchRequest(template=TEMPLATE, **fields)
    unasked: Any = None

    def start(asked: Any) -> SessionRequest:
        started.append(asked)
        return SessionRequest(WorkOptions(), b"", unasked)

    return GenerationTemplate(
        message.SerializeToString(),
        unasked,
        unasked,
        unasked,
        start,
        unasked,
    )


def works(overlays: dict[str, Overlay]) -> list[tuple[ItemWork, Settled]]:
    return [
        (ItemWork(name, overlay.SerializeToString()), Settled((5, 6), "model", (MODEL,)))
        for name, overlay in overlays.items()
    ]


def test_items_together_are_those_that_they_are_alone() -> None:
    started: list[Any] = []
    made = template(started)
    asked = works(OVERLAYS)
    requests = [made.request(work, settled, Priority.LOW) for work, settled in asked]
    requests.append(made.together(asked, Priority.LOW))
    assert all(each.contents == (MODEL,) for each in requests)
    *alone, together = started
    assert isinstance(together, inference_pb2.GenerateBatchRequest)
    assert together.computation == generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    assert together.options == alone[0].options
    assert together.options.priority == session_pb2.PRIORITY_LOW
    for item, one in zip(together.items, alone, strict=True):
        assert not list(check_overlay(item.overlay, "overlay"))
        settings, _ = laid_over(together.template, [Layer(item.overlay, "")])
        assert settings == one.settings
        assert (list(settings.seeds), settings.model_id) == ([5, 6], "model")
    # A picture of the template's is sent once, not with every item.
    assert together.ByteSize() < 2 * len(TEMPLATE.SerializeToString()) + 600
    assert not together.items[0].overlay.settings.HasField("image_to_image")


def test_combinations_of_a_matrix_are_named_and_laid_over_one_another() -> None:
    started: list[Any] = []
    values: list[Any] = [OVERLAYS["other"], OVERLAYS["bare"]]
    matrix = generation_pb2.GenerationMatrix(
        axes=[{"values": values}, {"values": [{"settings": {"steps": 4}}]}]
    )
    made = template(started, matrix=matrix)
    found = made.combinations()
    assert [each.item_id for each in found] == ["0-0", "1-0"]
    for each in found:
        made.request(each, Settled((1,), "model"), Priority.NORMAL)
    assert [one.settings.steps for one in started] == [4, 4]
    assert [one.settings.negative_prompt for one in started] == ["blurry", ""]
    assert list(started[0].settings.seeds) == [1]


@pytest.mark.parametrize("field", ["item_run_timeout", "retention"])
def test_times_of_items_are_the_batchs(field: str) -> None:
    started: list[Any] = []
    options = session_pb2.WorkOptions(retention={"seconds": 70})
    made = template(started, item_run_timeout={"seconds": 60}, options=options)
    made.request(*works({"plain": Overlay()})[0], Priority.HIGH)
    (one,) = started
    said = {
        "item_run_timeout": (one.options.run_timeout, 60),
        "retention": (one.options.retention, 70),
    }
    time, seconds = said[field]
    assert time.seconds == seconds
    assert one.options.on_disconnect == session_pb2.ON_DISCONNECT_DETACH
