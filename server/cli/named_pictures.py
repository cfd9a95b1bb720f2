"""Options of the form `ID:PICTURE[:SCALE[:START[:END]]]`."""

from __future__ import annotations

from dataclasses import dataclass

from server.cli.choices import UnusableOptions

_MOST_NUMBERS = 3


@dataclass(frozen=True)
class NamedPicture:
    """A model, a picture for it, and how strongly and between which shares of the steps it
    works; None where that is not said."""

    model: str
    picture: str
    scale: float | None
    start: float | None
    end: float | None

    @property
    def numbers(self) -> tuple[float | None, float | None, float | None]:
        """Those that are said, and None."""
        return self.scale, self.start, self.end


def parse_named_picture(text: str, option: str, form: str) -> NamedPicture:
    """What an option says.

    Raises:
        UnusableOptions: It is of another form; the message names the option and the form.
    """
    model, _, rest = text.partition(":")
    named, numbers = rest.split(":"), list[float]()
    # From the end: a path may hold colons.
    while len(named) > 1 and len(numbers) < _MOST_NUMBERS:
        try:
            numbers.insert(0, float(named[-1]))
        except ValueError:
            break
        named.pop()
    path = ":".join(named)
    if not model or not path:
        raise UnusableOptions(f"{option}: {text!r} is not {form}")
    scale, start, end = (*numbers, None, None, None)[:3]
    return NamedPicture(model, path, scale, start, end)
