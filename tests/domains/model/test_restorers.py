"""What headers of face restorers say of their networks, and which headers are refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition import Tensors, recognise
from domains.model.backends.restorers import GfpganDesign, design_of
from domains.model.backends.restorers.gfpgan import shapes
from domains.model.types import ModelType
from tests.domains.model.corpus.gfpgan import MAPPING, STYLE, WIDTHS, narrow
from tests.domains.model.test_upscalers import header

OFFICIAL = (512, 512, 512, 512, 512, 256, 128, 64)


def design(stored: Mapping[str, tuple[int, ...]], kind: str = "F32") -> GfpganDesign:
    found = recognise(Tensors(stored))
    assert found.type is ModelType.FACE_RESTORER
    return design_of(header(stored, kind))


@pytest.mark.parametrize("prefix", ["", "params_ema."])
def test_the_official_network_is_read(prefix):
    """GFPGAN 1.4 has 285 tensors with 87,143,276 numbers."""
    stored = {prefix + name: shape for name, shape in shapes(OFFICIAL, 512, 8).items()}

    found = design(stored)

    assert (found.widths, found.style, found.mapping) == (OFFICIAL, 512, 8)
    assert len(found.names) == 285
    assert set(found.names.values()) == set(stored)


def test_a_narrow_one_is_read_as_what_it_is():
    found = design(narrow())
    assert (found.widths, found.style, found.mapping) == (WIDTHS, STYLE, MAPPING)


DRAWING = "stylegan_decoder."
REFUSED = {
    "a layer is missing": ({"final_conv.bias": None}, Reason.MODEL_INCOMPLETE),
    "a size is": (
        {f"{DRAWING}style_convs.12.modulated_conv.weight": None},
        Reason.MODEL_INCOMPLETE,
    ),
    "a layer too many": (
        {"conv_body_down.7.skip.weight": (1, 1, 1, 1)},
        Reason.MODEL_INCOMPLETE,
    ),
    "another shape": ({"final_conv.bias": (9,)}, Reason.MODEL_SHAPE_INVALID),
    "a number for a convolution": (
        {f"{DRAWING}style_conv1.modulated_conv.weight": ()},
        Reason.MODEL_INCOMPLETE,
    ),
    "a number for a style": (
        {f"{DRAWING}style_conv1.modulated_conv.modulation.weight": ()},
        Reason.MODEL_INCOMPLETE,
    ),
    "no channels": (
        {f"{DRAWING}style_conv1.modulated_conv.weight": (1, 0, 0, 3, 3)},
        Reason.MODEL_INCOMPLETE,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_network_is_refused(what):
    changes, reason = REFUSED[what]
    changed = {**narrow(), **changes}
    with pytest.raises(FailedPrecondition) as caught:
        design({name: shape for name, shape in changed.items() if shape is not None})
    assert caught.value.reason is reason


def test_whole_numbers_are_no_weights():
    with pytest.raises(FailedPrecondition) as caught:
        design(narrow(), "I8")
    assert caught.value.reason is Reason.MODEL_DTYPE_UNSUPPORTED
