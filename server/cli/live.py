"""Progress in a terminal: a bar, what is going on, and the pictures as they form."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from deviceops.v1 import event_pb2, session_pb2
from server.cli.narration import Progress, ends_item, sentence
from server.cli.pictures import SavedPicture, seed_of, seed_words
from server.cli.preview import PreviewUnreadable
from server.cli.preview_grid import PreviewGrid
from server.cli.wording import printable

DEFAULT_PREVIEW_STEPS = 2  # a preview after so many steps, where nobody says otherwise
_PREVIEW_ROWS = 20
_FRAMES_PER_SECOND = 4  # a preview is 40 kB of colours, and drawing it costs time
_BAR_ROWS = 3  # the bar, and room for the prompt under it


def terminal() -> Console:
    """The console that progress goes to: stderr, so that stdout keeps the results."""
    return Console(file=sys.stderr, highlight=False)


def draws_previews(console: Console) -> bool:
    """Whether this terminal shows half blocks in true colour."""
    return (
        console.is_terminal
        and console.color_system == "truecolor"
        and console.encoding.startswith("utf")
    )


class LiveView:
    """One live region; notes and saved paths scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress()
        self._previews = PreviewGrid()
        self._unreadable = False
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bars.add_task(self._progress.activity, total=None)
        self._live = Live(
            console=console, refresh_per_second=_FRAMES_PER_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def event(self, event: event_pb2.SessionEvent) -> None:
        self._progress.take(event)
        match event.WhichOneof("event"):
            case "accepted":
                self.note(sentence(event))
            case "item_finished" if ends_item(event):
                self.note(sentence(event))
            case "preview":
                self._take_preview(event.preview)
            case "image_finished":
                self._previews.finish(event.image_finished.image.image_index)
            case "retried":
                self._previews.clear()
        self._bars.update(
            self._task,
            description=self._progress.activity,
            total=self._progress.total or None,
            completed=self._progress.done,
        )
        self._show()

    def note(self, text: str) -> None:
        self._console.print(Text(printable(text)))

    def saved(self, picture: SavedPicture) -> None:
        size = f"{picture.width}x{picture.height}"
        line = f"Saved {picture.path}  ({size}{seed_words(picture.seed)})"
        if sys.stdout.isatty():
            self._console.print(Text(line), soft_wrap=True)
        else:
            print(picture.path, flush=True)

    def left(self, image: session_pb2.ImageResult) -> None:
        size = f"{image.width}x{image.height}{seed_words(seed_of(image))}"
        line = f"Finished {image.artifact_id}  ({size})"
        if sys.stdout.isatty():
            self._console.print(Text(printable(line)), soft_wrap=True)
        else:
            print(printable(image.artifact_id), flush=True)

    def summary(self, facts: dict[str, object], lines: Iterable[str]) -> None:
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _take_preview(self, preview: event_pb2.Preview) -> None:
        if not draws_previews(self._console):
            return
        rows = max(1, min(_PREVIEW_ROWS, self._console.height - _BAR_ROWS))
        try:
            self._previews.take(
                preview.image_index,
                preview.data,
                self._progress.images,
                self._console.width,
                rows,
            )
        except PreviewUnreadable as error:
            if not self._unreadable:
                self.note(f"A preview cannot be shown: {error}.")
            self._unreadable = True

    def _show(self) -> None:
        parts: list[RenderableType] = [self._bars]
        drawn = self._previews.drawn()
        if drawn is not None:
            parts.append(drawn)
        self._live.update(Group(*parts))
