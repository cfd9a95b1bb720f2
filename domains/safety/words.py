"""Words and patterns in prompts, whatever their case and form.

A text and a pattern are folded alike: compatibility forms (full-width, ligatures, superscripts)
become plain, case goes, accents and other marks go, what nobody sees (zero-width joiners, soft
hyphens, direction marks) goes, and Cyrillic and Greek letters that look like Latin ones become
those. A pattern is one or several words; `*` in a word stands for any letters and digits, or
none. Words are runs of letters and digits, and only whole words match. There are no regular
expressions: nothing a client or operator writes takes more than its length times the text's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

# What looks like a lower-case Latin letter once it is folded.
_LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("аеёорсухіїјѕһԁԛԝ", "aeeopcyxiijshdqw", strict=True)),
        **dict(zip("αεικνορτυχγ", "aeikvoptuxy", strict=True)),
        **dict(zip("ıɑɡʋ", "iagv", strict=True)),
        **dict(zip("вкмнт", "bkmht", strict=True)),
    }
)
# Neither marks nor format characters, and yet nobody sees them.
_UNSEEN = frozenset("\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_DROPPED = frozenset({"Mn", "Me", "Cf"})
_ANY = "*"


def folded(text: str) -> str:
    """The text without what can be told apart only by case, form or sharp eyes."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    parts = unicodedata.normalize("NFKD", plain)
    seen = (
        each
        for each in parts
        if unicodedata.category(each) not in _DROPPED and each not in _UNSEEN
    )
    return unicodedata.normalize("NFC", "".join(seen)).translate(_LOOK_ALIKES)


def holds_any(text: str, patterns: Iterable[str]) -> bool:
    """Whether the text holds a word or words that match one of the patterns."""
    words = _words(folded(text))
    if not words:
        return False
    known, joined = frozenset(words), "\n".join(words)
    return any(_holds(words, known, joined, _globs(pattern)) for pattern in patterns)


def usable(pattern: str) -> bool:
    """Whether a pattern can match: it has a word in it, and none that is stars alone."""
    return bool(_globs(pattern))


Glob = tuple[str, ...]
"""A word of a pattern, split at its stars: one piece where it has none."""


@lru_cache(maxsize=4096)
def _globs(pattern: str) -> tuple[Glob, ...]:
    """The words of a pattern; none where one of them is stars alone."""
    globs = tuple(tuple(word.split(_ANY)) for word in _words(folded(pattern), also=_ANY))
    return globs if all(any(glob) for glob in globs) else ()


def _words(text: str, also: str = "") -> Sequence[str]:
    spaced = "".join(each if _in_word(each) or each in also else " " for each in text)
    return spaced.split()


def _in_word(character: str) -> bool:
    # Some scripts write vowels as marks that take room, and those stay.
    return character.isalnum() or unicodedata.category(character) == "Mc"


def _holds(
    words: Sequence[str], known: frozenset[str], joined: str, globs: tuple[Glob, ...]
) -> bool:
    if not globs:
        return False
    if any(piece not in joined for glob in globs for piece in glob):
        return False  # most patterns end here, at the speed of a search
    if len(globs) == 1:
        return any(_matches(word, globs[0]) for word in known)
    last = len(words) - len(globs)
    return any(
        all(_matches(words[start + k], glob) for k, glob in enumerate(globs))
        for start in range(last + 1)
    )


def _matches(word: str, glob: Glob) -> bool:
    """Whether the pieces come in the word in order: the first begins it, the last ends it."""
    if len(glob) == 1:
        return word == glob[0]
    first, *middle, last = glob
    if len(word) < len(first) + len(last):
        return False
    if not (word.startswith(first) and word.endswith(last)):
        return False
    at, end = len(first), len(word) - len(last)
    for piece in middle:
        found = word.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
