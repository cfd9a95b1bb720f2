r"""Weights in prompts: `(word)`, `(word:1.3)`, `[word]`, `\(`, BREAK."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.weighted_prompts import MOST_WEIGHT, Piece, parse_prompt, readings, too_heavy

UP, DOWN = 1.1, 0.909091
# Rich in what means something, and in what almost does.
PROMPTS = st.lists(
    st.sampled_from([*"()[]\\: .-+1a,é\n", "1.3", ":1.2)", ":-1)", "BREAK", "(a", "word"])
    | st.text(max_size=3),
    max_size=40,
).map("".join)


def told(prompt: str) -> list[list[tuple[str, float]]]:
    return [[(piece.text, piece.weight) for piece in each] for each in parse_prompt(prompt)]


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("", [[]]),
        ("a cat", [[("a cat", 1)]]),
        ("a (red) cat", [[("a ", 1), ("red", UP), (" cat", 1)]]),
        ("a (red:1.4) cat", [[("a ", 1), ("red", 1.4), (" cat", 1)]]),
        ("a [red] cat", [[("a ", 1), ("red", DOWN), (" cat", 1)]]),
        ("((a)) [[b]]", [[("a", 1.21), (" ", 1), ("b", 0.826446)]]),
        ("(a (b:2) c:0.5)", [[("a ", 0.5), ("b", 1), (" c", 0.5)]]),
        ("[(a)] b", [[("a b", 1)]]),
        ("(x: .5 )(y:+2)", [[("x", 0.5), ("y", 2)]]),
        ("(x:0), (y:-1)", [[("x", 0), (", ", 1), ("y", -1)]]),
        # The last number counts.
        ("(x:1.2:1.1)", [[("x:1.2", 1.1)]]),
        # What is no number is text.
        (
            "(x:1.2.3) (a:) (b:c)",
            [[("x:1.2.3", UP), (" ", 1), ("a:", UP), (" ", 1), ("b:c", UP)]],
        ),
        # A number belongs to round brackets alone.
        ("[x:1.3] y:1.3)", [[("x:1.3", DOWN), (" y:1.3)", 1)]]),
        (r"\(a\) \[b\] \\ \c", [[(r"(a) [b] \ \c", 1)]]),
        (r"(\(a\):1.2)", [[("(a)", 1.2)]]),
        # Never closed: to the end. Closing nothing: text.
        ("a (b c", [[("a ", 1), ("b c", UP)]]),
        ("((a) b", [[("a", 1.21), (" b", UP)]]),
        ("a)) b] c", [[("a)) b] c", 1)]]),
        # The two kinds do not see each other.
        ("([a)b]", [[("a", 1), ("b", DOWN)]]),
        ("a BREAK b", [[("a ", 1)], [(" b", 1)]]),
        ("(a BREAK b:2)", [[("a ", 2)], [(" b", 2)]]),
        ("BREAK a BREAK BREAK", [[], [(" a ", 1)], [(" ", 1)], []]),
        ("BREAKFAST break TEABREAK", [[("BREAKFAST break TEABREAK", 1)]]),
    ],
)
def test_what_each_piece_weighs(prompt: str, sections: list[list[tuple[str, float]]]) -> None:
    assert told(prompt) == sections


@pytest.mark.parametrize(
    ("prompt", "position"),
    [
        ("a (b:5.1)", 3),
        ("(a:-6)", 1),
        ("(a (b:3):2)", 4),
        ("(" * 17 + "a", 17),
        ("(a:" + "9" * 400 + ")", 1),
        ("((a:" + "9" * 400 + "):0)", 2),
    ],
)
def test_too_great_a_weight_is_found_by_its_place(prompt: str, position: int) -> None:
    piece = too_heavy(prompt)
    assert piece is not None
    assert piece.start == position


@pytest.mark.parametrize("prompt", ["", "a", "(a:5)", "(a:-5)", "(" * 16 + "a", "[" * 900])
def test_other_weights_are_none(prompt: str) -> None:
    assert too_heavy(prompt) is None


@given(PROMPTS)
def test_whatever_is_written_has_one_reading(prompt: str) -> None:
    sections = parse_prompt(prompt)
    assert parse_prompt(prompt) == sections
    assert all(piece.text for each in sections for piece in each)
    heavy = too_heavy(prompt)
    assert heavy is None or not abs(heavy.weight) <= MOST_WEIGHT


@given(PROMPTS)
def test_only_marks_are_left_out(prompt: str) -> None:
    """Every other character is in one piece, in its order and at the place that is told."""
    shown = "BREAK".join("".join(piece.text for piece in each) for each in parse_prompt(prompt))
    position = 0
    for character in shown:
        position = prompt.index(character, position) + 1
    left_out = len(prompt) - len(shown)
    marks = re.findall(r"\\[()\[\]\\]|:\s*[-+.\d]+\s*\)|[()\[\]]", prompt)
    assert left_out <= sum(map(len, marks))
    for section in parse_prompt(prompt):
        for piece in section:
            place = prompt[piece.start :]
            assert place.startswith((piece.text[0], "\\" + piece.text[0]))


@given(st.text())
def test_escaped_text_is_itself(text: str) -> None:
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text)
    if "BREAK" not in text:
        assert parse_prompt(escaped) == (((Piece(text),) if text else ()),)


@given(PROMPTS)
def test_weights_are_those_of_the_original(prompt: str) -> None:
    """The algorithm as its authors describe it: a list of runs, and each bracket that closes
    multiplies all runs since the one that opened."""
    # What is read otherwise on purpose, and numbers that it fails for.
    if re.search(r"\\(?![()\[\]\\])|BREAK", prompt) or re.search(
        r":\s*[-+.\d]*\.[-+.\d]*\s*\)", prompt
    ):
        return
    runs: list[list] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(since: int, factor: float) -> None:
        for run in runs[since:]:
            run[1] *= factor

    for match in re.finditer(
        r"\\\(|\\\)|\\\[|\\]|\\\\|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|]|[^\\()\[\]:]+|:",
        prompt,
    ):
        text, number = match[0], match[1]
        if text.startswith("\\"):
            runs.append([text[1:], 1.0])
        elif text in opened:
            opened[text].append(len(runs))
        elif number is not None and opened["("]:
            multiply(opened["("].pop(), float(number))
        elif text == ")" and opened["("]:
            multiply(opened["("].pop(), 1.1)
        elif text == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / 1.1)
        else:
            runs.append([text, 1.0])
    for since in opened["("]:
        multiply(since, 1.1)
    for since in opened["["]:
        multiply(since, 1 / 1.1)
    expected = [(character, run[1]) for run in runs for character in run[0]]
    ours = [(c, piece.weight) for piece in parse_prompt(prompt)[0] for c in piece.text]
    assert [c for c, _ in ours] == [c for c, _ in expected]
    for (_, mine), (_, theirs) in zip(ours, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("prompt", "apart", "together"),
    [
        ("a red pear", "a red pear", "a red pear"),
        ("pe(ar:1)", "pear", "pear"),
        ("pe(ar:1.2)", "pe ar", "pear"),
        ("[pe](ar", "pe ar", "pear"),
        ("pe(ar:1)(tree)", "pear tree", "peartree"),
        ("red BREAK(pear)", "red  pear", "red  pear"),
        (r"pe\(ar", "pe(ar", "pe(ar"),
    ],
)
def test_words_are_read_without_brackets(prompt: str, apart: str, together: str) -> None:
    assert readings(prompt) == (apart, together)
