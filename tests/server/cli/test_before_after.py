"""A picture and what came of it, side by side; and when the commands show it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from server.cli.before_after import before_after
from server.cli.preview import UPPER_HALF
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, whole
from tests.server.cli.scripted import ScriptedServer


def saved(folder: Path, name: str, image: Image.Image) -> Path:
    image.save(folder / name)
    return folder / name


def in_true_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands believe in a terminal that shows pictures."""
    settings = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def colours(line: str) -> int:
    """How many half blocks it has."""
    return line.count(UPPER_HALF)


def test_both_are_shown_whole_over_their_captions(tmp_path: Path) -> None:
    before = saved(tmp_path, "a.png", Image.new("RGB", (20, 20), "red"))
    after = saved(tmp_path, "b.png", Image.new("RGBA", (20, 10), (0, 0, 0, 0)))

    text = before_after(before, after, 40, 21)

    assert text is not None
    *lines, captions = text.plain.split("\n")
    assert [colours(line) for line in lines] == [38] * 5 + [19] * 5
    assert captions.split() == ["before", "after"]
    assert captions.index("after") == 21
    seen = {str(span.style) for span in text.spans}
    assert any("255,255,255" in style or "#ffffff" in style for style in seen)
    assert len(seen) == 2


def test_of_a_larger_one_the_middle_is_shown_and_the_same_part_of_the_other(
    tmp_path: Path,
) -> None:
    small = Image.new("RGB", (40, 40), "black")
    small.paste("white", (20, 0, 40, 40))
    large = Image.new("RGB", (160, 160), "black")
    large.paste("white", (80, 0, 160, 160))

    text = before_after(
        saved(tmp_path, "a.png", small), saved(tmp_path, "b.png", large), 42, 11
    )

    assert text is not None
    lines = text.plain.split("\n")[:-1]
    assert [colours(line) for line in lines] == [40] * 10
    # Both halves, as the edge lies in the middle of both.
    width = len(lines[0])
    dark = [0] * width
    for span in text.spans:
        if "#000000" in str(span.style) and span.start < width:
            dark[span.start] = 1
    assert dark[:20] == [1] * 10 + [0] * 10
    assert dark[22:42] == [1] * 10 + [0] * 10


@pytest.mark.parametrize(("columns", "rows"), [(17, 20), (80, 1)])
def test_without_room_nothing_is_shown(columns: int, rows: int, tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.new("RGB", (20, 20)))

    assert before_after(path, path, columns, rows) is None


@pytest.mark.parametrize("name", ["none.png", "broken.png"])
def test_what_is_no_picture_is_not_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    path = saved(tmp_path, "a.png", Image.new("RGB", (20, 20)))

    assert before_after(tmp_path / name, path, 80, 20) is None


@pytest.mark.parametrize(
    ("command", "terminal", "asked", "shown"),
    [
        (("process", "--step", "sharpen"), True, 1, True),
        (("upscale", "--factor", "2"), True, 1, True),
        (("upscale", "--preview-every", "3"), True, 3, True),
        (("upscale", "--preview-every", "0"), True, 0, False),
        (("process",), False, 0, False),
        (("process", "--preview-every", "2"), False, 2, False),
        (("process", "--json"), True, 0, False),
    ],
)
def test_terminals_of_true_colour_show_previews_and_both_pictures(
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    terminal: bool,
    asked: int,
    shown: bool,
) -> None:
    if terminal:
        for name, value in {
            "FORCE_COLOR": "1",
            "COLORTERM": "truecolor",
            "TERM": "xterm",
        }.items():
            monkeypatch.setenv(name, value)
    scripted.on_generate = lambda request, context: whole(png())
    path = saved(tmp_path, "a.png", Image.new("RGB", (64, 64), "red"))
    name, *options = command

    done = against(name, path, *options, "-o", tmp_path / "out")

    assert done.exit_code == 0, done.output
    [request] = scripted.requests
    assert request.delivery.previews.every_steps == asked
    both = [line for line in done.stderr.splitlines() if line.startswith("before ")]
    assert bool(both) is shown


def test_a_picture_that_lies_with_the_server_is_not_compared(
    against: Run, scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_true_colour(monkeypatch)
    scripted.on_generate = lambda request, context: whole(png())

    done = against("process", "0" * 64, "-o", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert scripted.requests[0].delivery.previews.every_steps == 1
    assert "before" not in done.stderr
