"""The pure parts: words, choices, exit codes, pictures and previews."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    errors_pb2,
    event_pb2,
    sampling_pb2,
    session_pb2,
)
from server.cli.choices import SCHEDULERS, UnusableOptions, choose, duration_in, offered
from server.cli.failures import from_failure
from server.cli.files import save
from server.cli.narration import Progress, ends_item, sentence
from server.cli.pictures import name_for
from server.cli.placing import placed
from server.cli.preview import MOST_BYTES, PreviewUnreadable, half_blocks
from server.cli.target import reachable
from server.cli.wording import byte_figure, count, duration, enum_word, printable, size
from tests.server.cli.messages import accepted, event, jpeg, png, result

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("euler", "EULER_DISCRETE"),
        ("Euler-A", "EULER_ANCESTRAL_DISCRETE"),
        ("euler_a", "EULER_ANCESTRAL_DISCRETE"),
        ("DPM++2M", "DPM_SOLVER_MULTISTEP"),
        ("dpm++ 2s", "DPM_SOLVER_SINGLESTEP"),
        ("EulerDiscreteScheduler", "EULER_DISCRETE"),
        ("KDPM2AncestralDiscrete", "KDPM2_ANCESTRAL_DISCRETE"),
        ("UniPCMultistepScheduler", "UNIPC_MULTISTEP"),
        ("SCHEDULER_HEUN_DISCRETE", "HEUN_DISCRETE"),
        ("lms_discrete", "LMS_DISCRETE"),
        ("heun", "HEUN_DISCRETE"),
        ("unipc", "UNIPC_MULTISTEP"),
        ("euler-ancestral", "EULER_ANCESTRAL_DISCRETE"),
        ("kdpm2", "KDPM2_DISCRETE"),
        ("kdpm2-ancestral", "KDPM2_ANCESTRAL_DISCRETE"),
        ("kdpm2-a", "KDPM2_ANCESTRAL_DISCRETE"),
        ("dpm-solver-multistep", "DPM_SOLVER_MULTISTEP"),
    ],
)
def test_schedulers_answer_to_every_usual_name(word: str, value: str) -> None:
    """Friendly names, diffusers' classes and the contract's."""
    chosen = choose(sampling_pb2.Scheduler, "SCHEDULER_", word, SCHEDULERS)

    assert chosen == sampling_pb2.Scheduler.Value(f"SCHEDULER_{value}")


def test_every_scheduler_has_a_name_that_finds_it() -> None:
    """What the help offers is accepted, and every one is offered by a short name."""
    names = offered(sampling_pb2.Scheduler, "SCHEDULER_", SCHEDULERS)
    found = [choose(sampling_pb2.Scheduler, "SCHEDULER_", n, SCHEDULERS) for n in names]

    assert found == [number for number in sampling_pb2.Scheduler.values() if number]
    assert names[:5] == ["dpm++2m", "dpm++2s", "ddim", "euler", "euler-a"]
    assert all(len(name) <= 8 for name in names)


@pytest.mark.parametrize(
    "word", ["", "unspecified", "SCHEDULER_UNSPECIFIED", "magic", "+", "dpm-solver"]
)
def test_what_names_no_value_is_refused(word: str) -> None:
    """The message lists what would do."""
    with pytest.raises(UnusableOptions, match=r"is none of: .*euler-a"):
        choose(sampling_pb2.Scheduler, "SCHEDULER_", word, SCHEDULERS)


@given(st.text())
def test_printable_text_never_steers_a_terminal(text: str) -> None:
    """No control, format or surrogate character is left, and the rest is."""
    shown = printable(text)

    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    assert not set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200f\ufeff") & set(shown)
    assert [c for c in text if c.isalnum()] == [c for c in shown if c.isalnum()]


def test_enum_words_of_newer_servers_are_numbers() -> None:
    """They must not break a table."""
    state = session_pb2.SessionState
    assert enum_word(state, session_pb2.SESSION_STATE_RUNNING, "SESSION_STATE_") == "running"
    assert enum_word(state, state.ValueType(99), "SESSION_STATE_") == "unspecified (99)"


def test_figures_have_units() -> None:
    """And say when they are estimated or unknown."""
    figure = common_pb2.ByteFigure
    assert [size(n) for n in (512, 1536, 3 * 2**30)] == ["512 B", "1.5 KiB", "3.0 GiB"]
    assert [count(n) for n in (12, 28_100_000)] == ["12", "28.1 M"]
    assert [duration(s) for s in (0.34, 2.5, 200)] == ["340 ms", "2.5 s", "3 min 20 s"]
    assert [duration(s) for s in (600, 7500, 604800, 90000)] == [
        *("10 min", "2 h 5 min", "7 d", "1 d 1 h")
    ]
    assert (
        byte_figure(figure(value_bytes=1024, quality=common_pb2.FIGURE_QUALITY_MEASURED))
        == "1.0 KiB"
    )
    assert (
        byte_figure(figure(value_bytes=1024, quality=common_pb2.FIGURE_QUALITY_ESTIMATED))
        == "~1.0 KiB"
    )
    assert byte_figure(figure(quality=common_pb2.FIGURE_QUALITY_UNKNOWN)) == "?"


@pytest.mark.parametrize(
    ("listens", "connects"),
    [
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("pc.local:1", "pc.local:1"),
    ],
)
def test_a_listening_address_becomes_one_to_connect_to(listens: str, connects: str) -> None:
    """Nobody can connect to `any address` on every platform."""
    assert reachable(listens) == connects


def test_a_failure_of_a_newer_server_is_still_readable() -> None:
    """Reason and code numbers that this side does not know."""
    failure = from_failure(
        errors_pb2.Failure(status_code=99, reason=9999, message="New.")  # type: ignore[arg-type]
    )

    assert (failure.status, failure.reason, failure.message) == ("UNKNOWN", "9999", "New.")


def test_progress_counts_steps_over_all_pictures() -> None:
    """And starts over when the work does."""
    progress = Progress()
    progress.take(accepted(1, 2, steps=10))
    for image, step in ((0, 10), (1, 3)):
        done = event_pb2.StepFinished(image_index=image, step=step, steps=10)
        progress.take(event(2, step_finished=done))
    assert (progress.done, progress.total) == (13, 20)

    started = event_pb2.PhaseStarted(phase=session_pb2.PHASE_DECODING, image_index=1)
    progress.take(event(3, phase_started=started))
    assert progress.activity == "Decoding 2/2"

    progress.take(event(4, retried=event_pb2.SessionRetried(retry_count=1)))
    assert (progress.done, progress.total) == (0, 20)


def test_progress_goes_on_in_a_second_pass() -> None:
    """Whose steps are counted from one again, picture by picture."""
    progress = Progress()
    progress.take(accepted(1, 2, steps=14))
    done = []
    for image in (0, 1):
        for phase, steps in (
            (session_pb2.PHASE_DENOISING, 10),
            (session_pb2.PHASE_SECOND_PASS, 4),
        ):
            started = event_pb2.PhaseStarted(phase=phase, image_index=image)
            progress.take(event(2, phase_started=started))
            for step in range(1, steps + 1):
                finished = event_pb2.StepFinished(image_index=image, step=step, steps=steps)
                progress.take(event(3, step_finished=finished))
                done.append(progress.done)
    assert done == list(range(1, 29))
    assert progress.total == 28

    for phase in (session_pb2.PHASE_DENOISING, session_pb2.PHASE_SECOND_PASS):
        started = event_pb2.PhaseStarted(phase=phase, image_index=1, kept_steps=12)
        progress.take(event(4, phase_started=started))
    progress.take(
        event(4, step_finished=event_pb2.StepFinished(image_index=1, step=3, steps=4))
    )
    assert progress.done == 14 + 13, "it goes on after a pause in the second pass"

    progress.take(event(4, retried=event_pb2.SessionRetried(retry_count=1)))
    step = event_pb2.StepFinished(image_index=0, step=1, steps=10)
    progress.take(event(5, step_finished=step))
    assert progress.done == 1


def test_a_preview_becomes_half_blocks() -> None:
    """Two pixels a character: here the upper half red, the lower half blue."""
    lines = half_blocks(jpeg(64, 64), columns=16, rows=8)

    assert (len(lines), len(lines[0])) == (8, 16)
    assert all(_near(upper, RED) and _near(lower, RED) for upper, lower in lines[0])
    assert all(_near(upper, BLUE) and _near(lower, BLUE) for upper, lower in lines[-1])

    middle = half_blocks(jpeg(64, 64), columns=6, rows=3)[1]
    assert all(_near(upper, RED) and _near(lower, BLUE) for upper, lower in middle)


def test_a_preview_keeps_its_shape_and_is_not_enlarged() -> None:
    """Wide, high, and smaller than the terminal."""
    wide = half_blocks(jpeg(200, 50), columns=40, rows=20)
    high = half_blocks(jpeg(50, 200), columns=40, rows=20)
    small = half_blocks(jpeg(8, 8), columns=200, rows=100)

    assert (len(wide), len(wide[0])) == (5, 40)
    assert (len(high), len(high[0])) == (20, 10)
    assert (len(small), len(small[0])) == (4, 8)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", png(), jpeg()[:200], jpeg(520, 520), jpeg() + bytes(MOST_BYTES)],
    ids=["empty", "text", "png", "cut", "pixels", "bytes"],
)
def test_what_is_no_preview_is_refused(data: bytes) -> None:
    """Rather than decoded: it comes over the network."""
    with pytest.raises(PreviewUnreadable):
        half_blocks(data, columns=40, rows=20)


def test_saving_takes_the_next_free_name(tmp_path: Path) -> None:
    """Again and again; nothing else is left in the folder."""
    saved = [save(data, tmp_path / "a.png").name for data in (b"1", b"2", b"3")]

    assert saved == ["a.png", "a-1.png", "a-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(saved)
    assert (tmp_path / "a-1.png").read_bytes() == b"2"


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half a file nor the name it reserved."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(b"1", tmp_path / "a.png")
    monkeypatch.undo()

    def refuse(source: object, target: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        save(b"1", tmp_path / "a.png")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_saved_picture_has_the_usual_mode(tmp_path: Path) -> None:
    """That of any new file, not that of a temporary one."""
    usual = tmp_path / "usual"
    usual.touch()

    path = save(b"1", tmp_path / "a.png")

    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    """What exists counts more than what it is called."""
    folder = tmp_path / "holiday.png"
    folder.mkdir()

    assert name_for(result(png()), folder, 1).parent == folder


def test_a_picture_that_was_not_drawn_is_called_by_what_it_is() -> None:
    picture = result(png())
    picture.ClearField("seed")
    number = picture.artifact_id[:12]

    assert name_for(picture, Path("out"), 1) == Path(f"out/picture-{number}.png")
    assert name_for(picture, Path("out"), 1, "control") == Path(f"out/control-{number}.png")
    assert name_for(result(png()), Path("out"), 1) == Path(f"out/7-{number}.png")


def test_a_file_of_another_format_than_its_name_says_gets_its_own_ending() -> None:
    """What decides the format may be a stored workflow, or the server."""
    picture = result(png())

    assert name_for(picture, Path("a.jpg"), 1) == Path("a.png")
    assert name_for(picture, Path("a.PNG"), 1) == Path("a.PNG")
    assert name_for(result(png(), format=2), Path("a.jpeg"), 1) == Path("a.jpeg")
    assert name_for(picture, Path("a.webp"), 2) == Path("a-0.png")


def _near(pixel: tuple[int, int, int], wanted: tuple[int, int, int]) -> bool:
    """JPEG changes colours a little."""
    return all(abs(a - b) < 16 for a, b in zip(pixel, wanted, strict=True))


def test_an_item_that_failed_says_why() -> None:
    """In the one line that it gets."""
    item = event_pb2.ItemFinished(item_id="cat", done_count=2, total_count=9)
    assert sentence(event(2, item_finished=item)) == "cat: 2/9"

    item.failure.message = "It is\x1b torn."
    assert sentence(event(2, item_finished=item)) == "cat: 2/9, failed: It is torn."


def test_where_work_runs_is_said_with_why_and_how_long() -> None:
    """As far as it is decided and measured."""
    decision = device_info_pb2.PlacementDecision()
    assert placed(decision) == ""
    decision.device_id = "cuda:0"
    assert placed(decision) == "cuda:0"
    decision.reason = device_info_pb2.PLACEMENT_REASON_FASTER
    assert placed(decision) == "cuda:0 (it was measured to be faster)"
    decision.expected_duration.FromSeconds(12)
    assert placed(decision) == "cuda:0 (it was measured to be faster, about 12.0 s)"


def test_every_reason_of_a_placement_has_its_words() -> None:
    for value in device_info_pb2.PlacementReason.values():
        decision = device_info_pb2.PlacementDecision(device_id="x", reason=value)
        assert "-" not in placed(decision)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("1.5m", 90), (" 2H ", 7200), ("7d", 604800), ("0", 0)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert duration_in("--x", text).ToTimedelta().total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "1w", "9" * 400, "1.5.2s", "inf"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UnusableOptions, match=r"--x: .* is no time; for example 90, 30s"):
        duration_in("--x", text)


def test_tiles_and_steps_of_a_chain_are_no_items() -> None:
    """They are told in the same message: under a name of theirs, also within an item."""
    progress = Progress()
    progress.take(accepted(1, 2, steps=4))
    working = event_pb2.PhaseStarted(phase=session_pb2.PHASE_POSTPROCESSING, image_index=0)
    progress.take(event(2, phase_started=working))
    tile = event_pb2.ItemFinished(item_id="tile", done_count=5, total_count=40)

    progress.take(event(3, item_finished=tile))
    assert progress.activity == "Postprocessing 1/2: tile 5 of 40"
    progress.take(event(3, item_finished=tile, item_id="a"))
    assert progress.activity == "Postprocessing 1/2: tile 5 of 40"
    assert (progress.done, progress.total) == (0, 8)
    assert sentence(event(3, item_finished=tile)) == "tile: 5/40"
    assert sentence(event(3, item_finished=tile, item_id="a")) == "a: tile 5/40"
    assert not ends_item(event(3, item_finished=tile))
    assert not ends_item(event(3, item_finished=tile, item_id="a"))
    ended = event_pb2.ItemFinished(item_id="a", done_count=1, total_count=2)
    assert ends_item(event(3, item_finished=ended, item_id="a"))


def test_an_item_that_is_finished_counts_whole_whatever_steps_it_had() -> None:
    """Items of a batch differ in their steps, which the first entry does not tell then."""
    progress = Progress()
    progress.take(accepted(1, 2, steps=0))
    for image, steps in ((0, 2), (1, 8)):
        done = event_pb2.StepFinished(image_index=image, step=2, steps=steps)
        progress.take(event(2 + image, step_finished=done, item_id=str(image)))
    assert (progress.done, progress.total) == (4, 16)

    item = event_pb2.ItemFinished(item_id="0", done_count=1, total_count=2)
    item.images.add(image_index=0)
    progress.take(event(5, item_finished=item, item_id="0"))

    assert (progress.done, progress.total) == (10, 16)
    assert progress.activity == "Item 1 of 2 finished"
