"""What a .cube file may say, and that nothing else gets by."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.chain.core.cube import Cube, CubeBroken, parse_cube

CURVE = b"LUT_1D_SIZE 2\n0 0 0\n1 0.5 2e0\n"
CUBE = b"LUT_3D_SIZE 2\n" + b"0 0.25 1\n" * 8


def colours(cube: Cube) -> list[list[float]]:
    return np.frombuffer(cube.colours, "<f4").reshape(-1, 3).tolist()


def test_a_table_is_read() -> None:
    text = (
        '\ufeffTITLE "Wärme"\r\n# made by hand\r\n\r\nLUT_3D_SIZE 2\r\n'
        "DOMAIN_MIN -0.5 0 0\r\nDOMAIN_MAX 1 2 1e1\r\n" + "\t-.5  +1 2\r\n" * 8 + "\n# end"
    )

    found = parse_cube(text.encode())

    assert (found.entries, found.three_dimensions) == (2, True)
    assert (found.low, found.high) == ((-0.5, 0.0, 0.0), (1.0, 2.0, 10.0))
    assert colours(found) == [[-0.5, 1.0, 2.0]] * 8
    curve = parse_cube(CURVE)
    assert (curve.entries, curve.three_dimensions) == (2, False)
    assert (curve.low, curve.high) == ((0.0,) * 3, (1.0,) * 3)
    assert colours(curve) == [[0, 0, 0], [1, 0.5, 2]]
    ranged = parse_cube(b"LUT_1D_INPUT_RANGE 0.25 0.75\n" + CURVE)
    assert (ranged.low, ranged.high) == ((0.25,) * 3, (0.75,) * 3)


def test_the_largest_tables_are_read() -> None:
    assert parse_cube(b"LUT_3D_SIZE 64\n" + b"0 0 1\n" * 64**3).entries == 64
    assert parse_cube(b"LUT_1D_SIZE 65536\n" + b"0 0 1\n" * 65_536).entries == 65_536


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "LUT_1D_SIZE"),
        (b"\x00\xff\xd8", "line 1"),
        (b"0 0 0\n" + CURVE, "line 1 has colours before"),
        (CURVE + b"1 1 1\n", "line 4 has more"),
        (CURVE[:-10], "1 of its colours"),
        (CURVE.replace(b"SIZE 2", b"SIZE 3"), "1 of its colours"),
        (CURVE.replace(b"SIZE 2", b"SIZE 1"), "line 1 must say a size"),
        (CURVE.replace(b"SIZE 2", b"SIZE"), "line 1 must say a size"),
        (CURVE.replace(b"SIZE 2", b"SIZE -2"), "line 1 must say a size"),
        (CURVE.replace(b"SIZE 2", b"SIZE 2.0"), "line 1 must say a size"),
        (CURVE.replace(b"SIZE 2", b"SIZE " + b"9" * 5_000), "line 1 must say a size"),
        (CUBE.replace(b"SIZE 2", b"SIZE 65"), "from 2 to 64"),
        (CUBE + b"LUT_1D_SIZE 2\n", "line 10 says something after"),
        (b"LUT_1D_SIZE 2\n" + CUBE, "line 2 begins a second"),
        (b"SIZE 2\n" + CUBE, "line 1 has a word"),
        (CUBE.replace(b"0.25", b"nan", 1), "line 2 has what is no number|beyond"),
        (CUBE.replace(b"0.25", b"1e9", 1), "line 2 has a number beyond"),
        (CUBE.replace(b"0.25", b"x", 1), "line 2 has what is no number"),
        (CUBE.replace(b"0.25", b"", 1), "line 2 must have 3 numbers"),
        (CUBE.replace(b"0.25", b"1 1", 1), "line 2 must have 3 numbers"),
        (b"DOMAIN_MIN 1 0 0\n" + CUBE, "least is not below"),
        (b"DOMAIN_MAX 1 1\n" + CUBE, "line 1 must have 3"),
        (b"LUT_3D_INPUT_RANGE 0\n" + CUBE, "line 1 must have 2"),
        (b"LUT_3D_INPUT_RANGE 0 inf\n" + CUBE, "line 1 has a number beyond"),
    ],
)
def test_what_is_no_table_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(CubeBroken, match=said):
        parse_cube(data)


@given(st.binary(max_size=60), st.integers(0, len(CUBE)), st.integers(0, 20))
def test_any_bytes_are_a_table_or_refused(noise: bytes, at: int, cut: int) -> None:
    try:
        found = parse_cube(CUBE[:at] + noise + CUBE[at + cut :])
    except CubeBroken:
        return
    count = found.entries**3 if found.three_dimensions else found.entries
    assert len(found.colours) == 12 * count
    assert np.isfinite(np.frombuffer(found.colours, "<f4")).all()


def test_the_other_byte_order_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = np.frombuffer(parse_cube(CURVE).colours, "<f4")
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")

    found = np.frombuffer(parse_cube(CURVE).colours, ">f4")

    assert np.array_equal(found, wanted)
