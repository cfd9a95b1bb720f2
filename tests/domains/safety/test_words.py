"""Words of a policy are found whatever their case and form, and nothing else is."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.safety.words import folded, holds_any, usable


@pytest.mark.parametrize(
    "text",
    [
        "apple",
        "an Apple, red",
        "APPLE!",
        "ａｐｐｌｅ",
        "𝐚𝐩𝐩𝐥𝐞 and 𝔞",
        "ⓐⓟⓟⓛⓔ",
        "a\u200bp\u200dp\ufeffle",
        "ap\u00adple",
        "a\u0301p\u0336p\u0336l\u20ddè",
        "аррӏе"[:3] + "le",  # Cyrillic
        "αpple",
        "a\u202epple",
        "ap\u3164ple",
        "(apple:1.3)",
        "red_apple",
    ],
)
def test_a_word_in_disguise_is_found(text: str) -> None:
    assert holds_any(text, ["Apple"])


@pytest.mark.parametrize("text", ["", "pineapple", "apples", "app le", "appl", "a.pple"])
def test_only_whole_words_are_found(text: str) -> None:
    assert not holds_any(text, ["apple"])


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("app*", "apples", True),
        ("app*", "an app", True),
        ("app*", "happy", False),
        ("*app*", "unhappy", True),
        ("*app", "a snappy", False),
        ("*pp", "a snapp", True),
        ("a*p*e", "apple", True),
        ("a*p*e", "ape", True),
        ("a*x*e", "apple", False),
        ("aa*aa", "aaa", False),
        ("aa*aa", "aaaa", True),
        ("two words", "Two,  WORDS here", True),
        ("two words", "two-words", True),
        ("two words", "words two", False),
        ("two words", "two other words", False),
        ("two w*", "the two wild ones", True),
        ("＊ＡＰＰ＊", "unhappy", True),
        ("*词*", "这个词在里面", True),
        ("a.b+c", "abbc", False),
        ("*", "anything", False),
        ("", "anything", False),
        ("İstanbul", "istanbul", True),
        ("straße", "STRASSE", True),
    ],
)
def test_patterns(pattern: str, text: str, found: bool) -> None:
    assert holds_any(text, [pattern]) is found


@pytest.mark.parametrize(
    ("pattern", "good"),
    [
        *(("word", True), ("wo*", True), ("two words", True), ("*", False), ("**", False)),
        *(("", False), ("...", False), ("\u200b", False), ("good *", False)),
    ],
)
def test_a_pattern_has_a_word_in_it(pattern: str, good: bool) -> None:
    assert usable(pattern) is good


@given(st.text(alphabet="ab*", min_size=1, max_size=6), st.text(alphabet="ab", max_size=8))
def test_stars_mean_what_a_regular_expression_says(pattern: str, word: str) -> None:
    if usable(pattern):
        means = re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), word) is not None
        assert holds_any(word, [pattern]) is (means and word != "")


@given(st.text(max_size=40))
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert folded(folded(text)) == folded(text)


def test_the_worst_patterns_on_the_longest_prompt_take_no_time() -> None:
    patterns = [f"*{'a*' * 28}b{k}" for k in range(1_000)]
    begun = time.perf_counter()
    assert not holds_any("a" * 10_000, patterns)
    assert not holds_any("a " * 5_000, [*patterns, *["a " * 30 + "b"] * 1_000])
    assert time.perf_counter() - begun < 5.0
