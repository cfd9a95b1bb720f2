"""What headers of upscalers say of their networks, and which headers are refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition import Tensors, recognise
from domains.model.backends.safetensors_header import Header, Table, TensorEntry
from domains.model.backends.upscalers import KINDS, UpscalerDesign, compact, design_of, rrdb
from domains.model.types import ModelType
from tests.domains.model.corpus.enlargers import samples

SAMPLES = {name: sample.shapes for name, sample in samples() if sample.kind in KINDS}
SMALL = compact.shapes(channels=3, features=4, depth=1, factor=2, slopes=4)
DENSE = rrdb.shapes(3, 3, features=4, growth=2, blocks=2, enlargements=2)


def header(shapes: Mapping[str, tuple[int, ...]], kind: str = "F16") -> Header:
    entries = (TensorEntry(name, kind, shape, 0, 0) for name, shape in shapes.items())
    return Header(Table(tuple(entries)), {}, 0, b"")


def design(shapes: Mapping[str, tuple[int, ...]], kind: str = "F16") -> UpscalerDesign:
    found = recognise(Tensors(shapes))
    assert found.type is ModelType.UPSCALER
    return design_of(header(shapes, kind), found.kind)


@pytest.mark.parametrize("name", SAMPLES)
def test_published_layouts(name):
    found = design(SAMPLES[name])
    assert (found.factor, found.channels, found.unit) == (4, 3, 1)
    whole = len(SAMPLES[name])
    assert len(found.names) == (whole // 2 if name == "rrdb-both" else whole)
    assert set(found.names.values()) <= set(SAMPLES[name])
    if found.kind == "RRDB":
        assert found.arguments["blocks"] == 23
        assert found.reach == 2 + 23 * 15 + 2 + 2
    else:
        assert found.arguments["depth"] == 32


def test_averaged_weights_are_used_where_there_are_both():
    found = design(SAMPLES["rrdb-both"])
    assert all(old.startswith("params_ema.") for old in found.names.values())


@pytest.mark.parametrize(
    ("taken", "enlargements", "factor", "unit"),
    [(3, 1, 2, 1), (3, 2, 4, 1), (3, 3, 8, 1), (12, 2, 2, 2), (48, 2, 1, 4), (3, 0, 1, 1)],
)
def test_factors_of_rrdb(taken, enlargements, factor, unit):
    shapes = rrdb.shapes(taken, 3, 4, 2, 1, enlargements)
    found = design(shapes)
    assert (found.factor, found.unit) == (factor, unit)


@pytest.mark.parametrize("factor", range(1, 9))
@pytest.mark.parametrize(("channels", "slopes"), [(3, 4), (1, 1)])
def test_factors_of_compact(factor, channels, slopes):
    found = design(compact.shapes(channels, 4, 2, factor, slopes))
    assert (found.factor, found.channels, found.reach) == (factor, channels, 4)


INCOMPLETE, SHAPE_INVALID = Reason.MODEL_INCOMPLETE, Reason.MODEL_SHAPE_INVALID
INCOMPATIBLE = Reason.MODEL_INCOMPATIBLE
REFUSED = {
    "a layer is missing": (DENSE, {"body.1.rdb2.conv3.bias": None}, INCOMPLETE),
    "a whole block is": (DENSE, {"conv_up1.weight": None}, INCOMPLETE),
    "the end is": (DENSE, {"conv_last.weight": None}, INCOMPLETE),
    "a layer too many": (
        DENSE,
        {"body.0.rdb1.conv1x1.weight": (2, 4, 1, 1)},
        INCOMPLETE,
    ),
    "a layer twice": (DENSE, {"HRconv.weight": (4, 4, 3, 3)}, INCOMPLETE),
    "blocks beyond counting": (
        DENSE,
        {"body.9999.rdb1.conv1.bias": (2,)},
        INCOMPLETE,
    ),
    "another shape": (DENSE, {"conv_hr.weight": (4, 4, 1, 1)}, SHAPE_INVALID),
    "four channels": (
        DENSE,
        {"conv_last.weight": (4, 4, 3, 3), "conv_last.bias": (4,)},
        INCOMPATIBLE,
    ),
    "fewer pixels": (
        rrdb.shapes(48, 3, 4, 2, 1, 1),
        {},
        INCOMPATIBLE,
    ),
    "too many more": (rrdb.shapes(3, 3, 4, 2, 1, 4), {}, INCOMPATIBLE),
    "compact without its end": (SMALL, {"body.4.weight": None}, INCOMPLETE),
    "compact with a slope too few": (
        SMALL,
        {"body.3.weight": (3,)},
        SHAPE_INVALID,
    ),
    "compact with a gap": (SMALL, {"body.2.bias": None}, INCOMPLETE),
    "compact with alpha": (
        compact.shapes(4, 4, 1, 2, 4),
        {},
        INCOMPATIBLE,
    ),
    "compact with a part of a pixel": (
        SMALL,
        {"body.4.weight": (13, 4, 3, 3), "body.4.bias": (13,)},
        INCOMPATIBLE,
    ),
    "compact that takes nothing": (
        SMALL,
        {"body.0.weight": (4, 0, 3, 3)},
        INCOMPATIBLE,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_network_is_refused(what):
    shapes, changes, reason = REFUSED[what]
    changed = {**shapes, **changes}
    with pytest.raises(FailedPrecondition) as caught:
        design({name: shape for name, shape in changed.items() if shape is not None})
    assert caught.value.reason is reason


def test_whole_numbers_are_no_weights():
    with pytest.raises(FailedPrecondition) as caught:
        design(SMALL, "I8")
    assert caught.value.reason is Reason.MODEL_DTYPE_UNSUPPORTED
    assert caught.value.metadata["tensor"] in SMALL
