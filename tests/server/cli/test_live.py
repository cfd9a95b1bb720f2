"""Progress in a terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from deviceops.v1 import event_pb2, session_pb2
from server.cli.live import LiveView, draws_previews
from server.cli.narration import sentence
from server.cli.pictures import SavedPicture
from server.cli.preview import UPPER_HALF
from tests.server.cli.messages import accepted, event, jpeg, png, whole


class _Screen(io.StringIO):
    encoding = "utf-8"


def _console(color: str = "truecolor", encoding: str = "utf-8") -> tuple[Console, _Screen]:
    screen = _Screen()
    screen.encoding = encoding
    console = Console(
        file=screen,
        force_terminal=True,
        color_system=color,  # type: ignore[arg-type]
        width=60,
        height=30,
        legacy_windows=False,
        _environ={},
    )
    return console, screen


def test_bar_phase_and_preview_are_drawn() -> None:
    """With the preview's own colours in half blocks."""
    console, screen = _console()
    with LiveView(console) as view:
        for entry in whole(png()):
            view.event(entry)
        console.print()  # draws the live region under what is printed
    shown = screen.getvalue()

    assert "Drawing" in shown
    assert "4/4" in shown
    assert UPPER_HALF in shown
    assert "38;2;254;0;0" in shown


def test_terminals_without_true_colour_get_no_preview() -> None:
    """The bar is there all the same."""
    console, screen = _console("256")
    with LiveView(console) as view:
        for entry in whole(png()):
            view.event(entry)
        console.print()

    assert UPPER_HALF not in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert not draws_previews(console)
    assert not draws_previews(_console(encoding="cp1252")[0])


def test_pictures_form_side_by_side() -> None:
    """Each over its number, here two in a row."""
    console, screen = _console()
    first = accepted(1, 2, 3, 4)
    with LiveView(console) as view:
        view.event(first)
        for index in (2, 0, 1, 3, 2):
            preview = event_pb2.Preview(image_index=index, step=1, data=jpeg())
            view.event(event(2, preview=preview))
        result = session_pb2.ImageResult(image_index=1, seed=2)
        view.event(event(3, image_finished=event_pb2.ImageFinished(image=result)))
        screen.truncate(0)
        console.print()
    lines = [line.plain for line in Text.from_ansi(screen.getvalue()).split()]

    captions = [line.split() for line in lines if line.strip().startswith(("1 ", "3 "))]
    assert captions[-2:] == [["1", "2", "done"], ["3", "4"]]
    assert max(line.count(UPPER_HALF) for line in lines) == 2 * 18
    assert max(map(len, lines)) <= 60


def test_an_unreadable_preview_is_said_once() -> None:
    """And the work goes on."""
    console, screen = _console()
    broken = event_pb2.Preview(step=1, data=b"nothing")
    with LiveView(console) as view:
        for _ in range(2):
            view.event(event(2, preview=broken))
        view.event(event(2, preview=event_pb2.Preview(step=2, data=jpeg())))
        console.print()

    assert screen.getvalue().count("A preview cannot be shown") == 1
    assert UPPER_HALF in screen.getvalue()


def test_markup_in_names_is_only_text() -> None:
    """Rich would take square brackets of a device or path for colours."""
    console, screen = _console()
    first = accepted(7)
    with LiveView(console) as view:
        view.event(first)
        transfer = event_pb2.TransferProgress(item="[red]unet\x1b[2J", total_bytes=10)
        view.event(event(2, transfer_progress=transfer))
        view.note("[bold]note")
        view.saved(SavedPicture(0, 7, "a" * 64, Path("out/[b]x.png"), 8, 8, 1))
        console.print()

    assert "Loading [red]unet[2J" in screen.getvalue()
    assert "[bold]note" in screen.getvalue()


def test_a_durable_batch_counts_items_and_tells_how_fast_and_how_long() -> None:
    console, screen = _console()
    with LiveView(console) as view:
        begun = event_pb2.SessionAccepted(kind=session_pb2.SESSION_KIND_BATCH)
        view.event(event(1, accepted=begun))
        for done, seconds in ((1, 100), (3, 104)):
            ended = event_pb2.ItemFinished(item_id="a", done_count=done, total_count=9)
            entry = event(2, item_finished=ended, item_id="a")
            entry.event_time.FromSeconds(seconds)
            view.event(entry)
        screen.truncate(0)
        console.print()
    shown = Text.from_ansi(screen.getvalue()).plain
    assert "3/9" in shown
    assert "Item 3 of 9 finished, 0.5 a second, 12.0 s left" in " ".join(shown.split())


def test_a_picture_has_a_seed_only_where_it_was_drawn() -> None:
    def told(**result: Any) -> str:
        image = session_pb2.ImageResult(width=9, height=8, **result)
        return sentence(event(2, image_finished=event_pb2.ImageFinished(image=image)))

    assert told(seed=0, artifact_id="ab").endswith("finished: 9x8, seed 0, artifact ab")
    assert told(artifact_id="ab").endswith("finished: 9x8, artifact ab")
    assert told(seed=5).endswith("finished: 9x8, seed 5, withheld")
