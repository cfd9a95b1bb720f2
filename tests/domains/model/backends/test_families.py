"""Every architecture is a family with a description, and a way to be run if it can be."""

from __future__ import annotations

from inspect import signature

import diffusers
import pytest
import transformers

from domains.inference.backends.families.registry import family_of
from domains.model.backends.families.registry import FAMILIES, PIPELINES
from domains.model.types import Architecture


def test_every_architecture_is_one_family():
    assert [family.architecture for family in FAMILIES] == list(Architecture)
    titles = {family.title for family in FAMILIES}
    assert len(titles) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_what_can_be_drawn_with_is_described_whole(family):
    if not family.pipelines:
        assert not family.networks
        return
    assert {"unet", "vae"} <= family.networks.keys()
    assert family.tokenizers
    assert callable(family_of(family.architecture).encode_text)
    assert family.pipelines <= PIPELINES


def test_no_two_families_claim_one_folder_or_file():
    indices = [
        {"_class_name": f"StableDiffusion{kind}Pipeline", "unet": ["diffusers", "U"]} | parts
        for kind in ("", "Img2Img", "XL", "XLImg2Img", "3")
        for parts in (
            {},
            {"text_encoder": ["transformers", "T"]},
            {"text_encoder_2": ["transformers", "T"]},
            {"requires_aesthetics_score": True},
        )
    ]
    for index in indices:
        for width in (None, 128, 768, 1024, 2048):
            unet = {"cross_attention_dim": width}
            claims = [f for f in FAMILIES if f.recognise_folder(index, unet) is not None]
            assert len(claims) <= 1
    widths = [width for family in FAMILIES for width in family.attention_widths]
    assert len(widths) == len(set(widths))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_bounded_keys_of_networks_are_keys_of_their_classes(family):
    """A key that no class knows would guard nothing."""
    for network in family.networks.values():
        library = diffusers if network.library == "diffusers" else transformers
        cls = getattr(library, network.name)
        built = cls if network.library == "diffusers" else cls.config_class
        known = set(signature(built.__init__).parameters)
        known |= set(getattr(built, "__dataclass_fields__", {}))
        # These two ask for what no class here does, and are refused.
        refused = {"quantization_config", "use_attention_mask"}
        assert set(network.bounds.keys) - refused <= known
        assert set(network.defaults) <= known
