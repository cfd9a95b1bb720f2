"""Previews of several pictures side by side."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from server.cli.preview import UPPER_HALF, PreviewUnreadable
from server.cli.preview_grid import PreviewGrid, layout


def jpeg(edge: int = 64, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (edge, edge), colour).save(file, "jpeg")
    return file.getvalue()


@pytest.mark.parametrize(
    ("count", "columns", "rows", "expected"),
    [
        (1, 80, 20, (1, 1, 80, 20)),  # as large as there is room, without a number
        (2, 80, 20, (2, 2, 39, 19)),
        (4, 80, 20, (4, 4, 19, 19)),
        (4, 40, 30, (4, 2, 19, 14)),
        (9, 120, 20, (9, 5, 23, 9)),
        (256, 80, 20, (36, 9, 8, 4)),
        (5, 10, 4, (1, 1, 10, 3)),
        (3, 1, 1, (1, 1, 1, 1)),
    ],
)
def test_pictures_are_as_large_as_there_is_room(
    count: int, columns: int, rows: int, expected: tuple[int, int, int, int]
) -> None:
    found = layout(count, columns, rows)

    assert (found.shown, found.across, found.columns, found.rows) == expected
    assert found.across * (found.columns + 1) - 1 <= columns


def shown(grid: PreviewGrid) -> list[str]:
    text = grid.drawn()
    return [] if text is None else text.plain.splitlines()


def test_one_picture_has_no_number() -> None:
    grid = PreviewGrid()
    assert grid.drawn() is None
    grid.take(0, jpeg(), 1, 80, 10)

    assert shown(grid) == [UPPER_HALF * 20] * 10


def test_those_drawn_on_last_are_shown_where_not_all_have_room() -> None:
    grid = PreviewGrid()
    for index in (0, 1, 2, 3, 0):
        grid.take(index, jpeg(), 4, 17, 6)  # room for two
        grid.drawn()

    assert shown(grid)[-1].split() == ["1", "4"]


def test_a_picture_that_is_finished_stays_and_says_so() -> None:
    grid = PreviewGrid()
    grid.take(0, jpeg(), 2, 40, 10)
    grid.take(1, jpeg(), 2, 40, 10)
    before = shown(grid)
    grid.finish(0)

    assert before[-1].split() == ["1", "2"]
    assert shown(grid)[-1].split() == ["1", "done", "2"]
    assert shown(grid)[:-1] == before[:-1]


def test_a_window_that_changes_has_all_of_them_drawn_anew() -> None:
    grid = PreviewGrid()
    for index in range(2):
        grid.take(index, jpeg(), 2, 80, 20)
    grid.take(0, jpeg(), 2, 40, 10)

    assert max(map(len, shown(grid))) <= 40
    assert len(shown(grid)) <= 10


def test_pictures_of_different_heights_stand_under_their_own_columns() -> None:
    grid = PreviewGrid()
    grid.take(0, jpeg(8), 2, 40, 10)
    grid.take(1, jpeg(64), 2, 40, 10)

    lines = shown(grid)
    assert lines[0].startswith(UPPER_HALF * 8 + " " * 12 + UPPER_HALF)
    assert lines[8].startswith(" " * 20 + UPPER_HALF)


def test_what_cannot_be_read_leaves_what_was_there() -> None:
    grid = PreviewGrid()
    grid.take(0, jpeg(), 2, 40, 10)
    before = shown(grid)
    with pytest.raises(PreviewUnreadable):
        grid.take(0, b"nothing", 2, 40, 10)
    assert shown(grid) == before
    grid.clear()
    assert grid.drawn() is None
