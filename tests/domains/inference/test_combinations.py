"""What goes with what, as GetCapabilities tells it and as the contract has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deviceops.v1 import conditioning_pb2, generation_pb2, sampling_pb2
from domains.inference import convert
from domains.inference.core.capabilities import UNBUILT, CapabilityInquiry
from domains.inference.core.combinations import (
    Mode,
    excluded_by,
    features_of,
    modes_of,
)
from domains.model.types import ModelType
from domains.provenance.backends import manifests
from domains.values import PROMAX, UNION
from tests.domains.inference.conftest import MODEL, NO_MARKS, FakeDevices, FakeModels


def field_of(path: str) -> object:
    """The contract's field at a path; a KeyError where there is none."""
    descriptor = generation_pb2.GenerationSettings.DESCRIPTOR
    *parents, name = path.split(".")
    for parent in parents:
        descriptor = descriptor.fields_by_name[parent].message_type
    return descriptor.fields_by_name[name]


def test_every_feature_is_a_field_of_the_contract_and_is_told_once() -> None:
    features = features_of(MODEL, UNBUILT)

    assert [field_of(feature.field) for feature in features]
    names = [feature.field for feature in features]
    assert len(set(names)) == len(names) <= 100
    assert set(UNBUILT) <= set(names)
    top = generation_pb2.GenerationSettings.DESCRIPTOR.fields_by_name
    assert {name.split(".")[0] for name in names} == set(top)


@pytest.mark.parametrize(
    ("message", "prefix"),
    [(generation_pb2.GenerationSettings, ""), (sampling_pb2.SchedulerSettings, "scheduler.")],
)
def test_what_the_contract_has_as_one_of_excludes_the_others(
    message: type, prefix: str
) -> None:
    for group in message.DESCRIPTOR.oneofs:  # type: ignore[attr-defined]
        names = {prefix + field.name for field in group.fields}
        if len(names) == 1:  # a field with presence, or a family of one
            continue
        for name in names:
            assert names - {name} <= set(excluded_by(name))


def test_exclusion_goes_both_ways() -> None:
    for feature in features_of(MODEL, UNBUILT):
        for other in feature.excluded:
            assert feature.field in excluded_by(other)


def test_a_model_with_a_mask_beside_its_latents_only_inpaints() -> None:
    masked = replace(MODEL, inpainting=True)

    assert modes_of(masked, {}) == (Mode.INPAINTING,)
    assert modes_of(masked, {"inpainting": "Not yet."}) == ()
    assert modes_of(MODEL, {}) == tuple(Mode)
    reasons = {each.field: each.explanation for each in features_of(masked, {})}
    assert "only inpaints" in reasons["image_to_image"]
    assert reasons["loras"] == ""


async def test_manifests_are_told_of_where_their_library_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = "output.provenance.manifest"
    inquiry = CapabilityInquiry(FakeDevices(), FakeModels(), NO_MARKS)
    found = await inquiry.describe("", "")
    assert field not in {each.field for each in found.features}

    monkeypatch.setattr(manifests, "find_spec", lambda name: None)
    found = await inquiry.describe("", "")

    (told,) = [each for each in found.features if each.field == field]
    assert "pip install 'device-operations[provenance]'" in told.explanation


async def test_a_refiner_has_no_mode_and_says_where_it_is_named() -> None:
    models = FakeModels(others={"fine": replace(MODEL, type=ModelType.REFINER)})

    found = await CapabilityInquiry(FakeDevices(), models, NO_MARKS).describe("fine", "")
    message = convert.capabilities_to_proto(found)

    assert list(message.modes) == []
    assert message.schedulers
    available = {each.feature for each in message.features if each.available}
    assert available == {"GenerationSettings.sdxl", "GenerationSettings.sdxl.refiner"}
    told = {each.feature: each.explanation for each in message.features}
    assert "sdxl.refiner.model_id" in told["GenerationSettings.prompt"]
    for name, why in UNBUILT.items():
        assert told[f"GenerationSettings.{name}"] == why


async def test_capabilities_tell_them() -> None:
    found = await CapabilityInquiry(FakeDevices(), FakeModels(), NO_MARKS).describe("", "")
    message = convert.capabilities_to_proto(found)
    features = {each.feature: each for each in message.features}

    assert generation_pb2.GENERATION_MODE_TEXT_TO_IMAGE in message.modes
    seeds = features["GenerationSettings.seeds"]
    assert (seeds.available, list(seeds.excluded_features)) == (
        True,
        ["GenerationSettings.seed"],
    )
    for name, why in UNBUILT.items():
        assert features[f"GenerationSettings.{name}"].explanation == why
        assert not features[f"GenerationSettings.{name}"].available


async def test_capabilities_tell_what_unions_take_pictures_for() -> None:
    net = replace(MODEL, type=ModelType.CONTROL_NET)
    six, lora = replace(net, kind=UNION), replace(MODEL, type=ModelType.LORA, kind=PROMAX)
    for others, available in (
        ({"plain": net, "lora": lora}, 0),
        ({"six": six, "plain": net}, 6),
        ({"six": six, "all": replace(net, kind=PROMAX)}, 8),
    ):
        models = FakeModels(others=others)
        found = await CapabilityInquiry(FakeDevices(), models, NO_MARKS).describe("", "")
        told = {each.feature: each for each in convert.capabilities_to_proto(found).features}
        assert told["GenerationSettings.control_nets"].available
        names = conditioning_pb2.ControlNetType.keys()[1:]
        assert [told[name].available for name in names] == [k < available for k in range(8)]
        assert all("emoji" in told[name].explanation for name in names[available:])
        assert len(told) <= 100
