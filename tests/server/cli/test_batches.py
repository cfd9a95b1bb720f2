"""`deviceops generate` with --each, --runs and --items: many pictures in one go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from deviceops.v1 import (
    errors_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    processing_pb2,
    sampling_pb2,
)
from server.cli.batch_items import read_items
from server.cli.batch_request import BatchOptions, batch_request
from server.cli.choices import UnusableOptions
from server.cli.input_image import input_image
from tests.server.cli.conftest import Run
from tests.server.cli.messages import (
    accepted,
    chunks,
    completed,
    drop,
    event,
    png,
    refuse,
    result,
    sha256,
)
from tests.server.cli.scripted import ScriptedServer

OUT_OF_MEMORY = errors_pb2.Failure(
    status_code=8,
    reason=errors_pb2.ERROR_REASON_DEVICE_OUT_OF_MEMORY,
    message="Device memory does not suffice.",
)


def drawn(*items: str, failing: tuple[str, ...] = ()) -> Iterator[event_pb2.SessionEvent]:
    """A batch of items of one picture each; the failing ones have none."""
    yield accepted(*range(len(items)))
    failed = 0
    for at, name in enumerate(items):
        item = event_pb2.ItemFinished(
            item_id=name, done_count=at + 1, total_count=len(items), failed_count=failed
        )
        if name in failing:
            failed += 1
            item.failure.CopyFrom(OUT_OF_MEMORY)
        else:
            data = png((at, 0, 0))
            image = result(data, at, seed=at, item_id=name)
            step = event_pb2.StepFinished(image_index=at, step=4, steps=4)
            yield event(10 * at + 2, step_finished=step, item_id=name)
            yield from chunks(10 * at + 3, data, at)
            finished = event_pb2.ImageFinished(image=image)
            yield event(10 * at + 4, image_finished=finished, item_id=name)
            item.images.append(image)
        item.failed_count = failed
        for piece in ("tile", "step"):  # of its chain
            part = event_pb2.ItemFinished(item_id=piece, done_count=1, total_count=7)
            yield event(10 * at + 5, item_finished=part, item_id=name)
        yield event(10 * at + 5, item_finished=item, item_id=name)
    yield completed(1000)


def batch(scripted: ScriptedServer) -> inference_pb2.GenerateBatchRequest:
    (request,) = scripted.of_type(inference_pb2.GenerateBatchRequest)
    assert isinstance(request, inference_pb2.GenerateBatchRequest)
    return request


def values(axis: generation_pb2.MatrixAxis) -> list[generation_pb2.GenerationSettings]:
    return [value.settings for value in axis.values]


@pytest.fixture
def draws(scripted: ScriptedServer) -> ScriptedServer:
    """It draws two items, whatever is asked for."""
    scripted.on_batch = lambda request, context: drawn("a", "b")
    return scripted


def test_every_combination_is_asked_for_and_saved_under_its_items_name(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_batch = lambda request, context: drawn("0-0", "0-1")

    done = against(
        *("generate", "a cat", "--seed", 7, "--guidance-rescale", 0.5, "--share"),
        *("--each", 'prompt="a cat, asleep", a dog', "--each", "guidance.scale=1,5"),
        *("--runs", 2, "--tag", "night", "--device", "cpu:0", "-o", tmp_path),
        *("--finish", "sharpen:amount=0.5"),
    )

    assert done.exit_code == 0, done.output
    request = batch(scripted)
    assert [each.sharpen.amount for each in request.postprocessing] == [0.5]
    assert (request.template.prompt, request.template.seed) == ("a cat", 7)
    prompts, scales = request.matrix.axes
    assert [each.prompt for each in values(prompts)] == ["a cat, asleep", "a dog"]
    # A message replaces the template's whole: what the template says of it comes along.
    assert values(scales) == [
        generation_pb2.GenerationSettings(
            guidance=sampling_pb2.GuidanceSettings(scale=scale, rescale=0.5)
        )
        for scale in (1, 5)
    ]
    assert request.matrix.runs == 2
    assert request.computation == generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    assert list(request.options.tags) == ["night"]
    assert request.placement.device_id == "cpu:0"
    paths = [tmp_path / f"0-{at}-{at}-{sha256(png((at, 0, 0)))[:12]}.png" for at in (0, 1)]
    assert done.stdout.splitlines() == [str(path) for path in paths]
    assert paths[1].read_bytes() == png((1, 0, 0))
    lines = done.stderr.splitlines()
    assert "0-1: prompt=a cat, asleep, guidance.scale=5" in lines
    assert "Picture 2 (0-1): step 4/4" in lines
    assert lines.index("0-0: 1/2") < lines.index("0-1: 2/2")
    assert "2 of 2 items worked, 0 failed" in lines


def test_axes_of_one_message_are_combined_here(
    against: Run, draws: ScriptedServer, tmp_path: Path
) -> None:
    """On axes of their own the second would replace the first."""
    against(
        *("generate", "x", "-o", tmp_path),
        *(
            "--each",
            "guidance.scale=1,5",
            "--each",
            "steps=2",
            "--each",
            "guidance.rescale=0,1",
        ),
    )

    guidance, steps = batch(draws).matrix.axes
    assert [(each.guidance.scale, each.guidance.rescale) for each in values(guidance)] == [
        *((1, 0), (1, 1), (5, 0), (5, 1))
    ]
    assert [each.steps for each in values(steps)] == [2]


def test_runs_alone_are_a_batch_and_lists_can_be_emptied(
    against: Run, draws: ScriptedServer, tmp_path: Path
) -> None:
    against(
        *("generate", "x", "--seeds", "1,2", "-o", tmp_path, "--runs", 3),
        *("--each", 'seeds="3,4",'),
    )

    request = batch(draws)
    assert request.matrix.runs == 3
    three_four, none = request.matrix.axes[0].values
    assert list(three_four.settings.seeds) == [3, 4]
    assert (list(none.settings.seeds), list(none.cleared_fields.paths)) == ([], ["seeds"])


def test_items_come_from_a_table(against: Run, draws: ScriptedServer, tmp_path: Path) -> None:
    table = tmp_path / "items.csv"
    table.write_text(
        "\ufeffitem_id,prompt,guidance.scale,cleared_fields\r\n"
        'pear,"a pear,\r\nripe",,\r\n'
        "\r\n"
        ',,5,"negative_prompt, seed"\r\n',
        encoding="utf-8",
        newline="",
    )

    done = against(
        *("generate", "--guidance-rescale", 0.5, "--seed", 3, "--negative", "bad"),
        *("--items", table, "-o", tmp_path / "out"),
    )

    assert done.exit_code == 0, done.output
    request = batch(draws)
    assert not request.template.HasField("prompt")
    pear, second = request.items
    assert (pear.item_id, pear.overlay.settings.prompt) == ("pear", "a pear,\r\nripe")
    assert not pear.overlay.settings.HasField("guidance")
    assert second.item_id == "2"
    assert not second.overlay.settings.HasField("prompt")
    assert second.overlay.settings.guidance.scale == 5
    assert second.overlay.settings.guidance.rescale == 0.5
    assert list(second.overlay.cleared_fields.paths) == ["negative_prompt", "seed"]
    assert request.computation == generation_pb2.BATCH_COMPUTATION_UNSPECIFIED


def test_items_come_from_lines_of_json(
    against: Run, draws: ScriptedServer, tmp_path: Path
) -> None:
    """Overlays as the contract has them: a message replaces the template's whole."""
    lines = tmp_path / "items.jsonl"
    lines.write_text(
        '{"item_id": "pear", "settings": {"prompt": "a pear", "guidance": {"scale": 5}}}\n'
        '\n{"cleared_fields": "negativePrompt,loras"}\n'
    )

    done = against(
        *("generate", "x", "--guidance-rescale", 0.5, "--items", lines),
        *("-o", tmp_path / "out"),
    )

    assert done.exit_code == 0, done.output
    pear, second = batch(draws).items
    assert pear.item_id == "pear"
    assert pear.overlay.settings.prompt == "a pear"
    assert not pear.overlay.settings.guidance.HasField("rescale")
    assert (second.item_id, list(second.overlay.cleared_fields.paths)) == (
        "2",
        ["negative_prompt", "loras"],
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "prompt,stepz\nx,\n", "line 1, column stepz: there is no such field, only"),
        ("a.csv", "prompt,\nx,1\n", "line 1, column 2: there is no such field"),
        ("a.csv", "steps,steps\n1,2\n", "line 1, column steps: it is there twice"),
        ("a.csv", "prompt,steps\nx,1\ny,many\n", "line 3, column steps: 'many' is no whole"),
        ("a.csv", 'prompt,steps\n"x\ny",1\nz,0.5\n', "line 4, column steps: '0.5' is no whole"),
        ("a.csv", "guidance.scael\n5\n", "line 2, column guidance.scael: GuidanceSettings has"),
        ("a.csv", "prompt,steps\nx\n", "line 2: it has 1 cells, and the first line 2"),
        ("a.csv", 'prompt\n"x" y\n', "line 2: "),
        ("a.csv", 'prompt\nx\n"y\n', "line 3: unexpected end of data"),
        (
            "a.csv",
            "image_to_image.image\nnone.png\n",
            "line 2, column image_to_image.image: non",
        ),
        (
            "a.csv",
            "cleared_fields\nseed\nseeed\n",
            "line 3, cleared_fields: there is no field 'see",
        ),
        (
            "a.jsonl",
            '{"cleared_fields": "x"}\n',
            "line 1, cleared_fields: there is no field 'x'",
        ),
        ("a.csv", "prompt\n", "there are no items in it"),
        ("a.csv", "", "there are no items in it"),
        ("a.csv", b"prompt\n\xff\n", "byte 7 is no UTF-8"),
        ("a.csv", None, "it cannot be read: No such file"),
        ("a.txt", "x", "its name must end in .csv or .jsonl"),
        ("a.jsonl", '{}\n{"settings": }\n', "line 2, column 14: it is no JSON"),
        ("a.jsonl", "[]\n", "line 1: it is no JSON object"),
        ("a.jsonl", '{"item_id": 1}\n', "line 1, item_id: 1 is no text"),
        ("a.jsonl", '{"settings": {"stepz": 1}}\n', 'no field named "stepz"'),
        ("a.jsonl", '{"item_id": "\\ud800"}\n', "line 1: "),
        ("a.jsonl", "[" * 100_000, "line 1"),
        ("a.jsonl", "\n", "there are no items in it"),
    ],
)
def test_a_file_that_holds_no_items_is_refused_with_the_place(
    name: str, content: str | bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(UnusableOptions) as refused:
        read_items(file, generation_pb2.GenerationSettings(), input_image)

    assert str(refused.value).startswith(f"--items {file}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BatchOptions(("steps",)), "--each: 'steps' is not FIELD=VALUE,VALUE,..."),
        (BatchOptions(("steps=",)), "--each: 'steps=' is not FIELD=VALUE,VALUE,..."),
        (BatchOptions(("=1,2",)), "--each: '=1,2' is not FIELD=VALUE,VALUE,..."),
        (BatchOptions(("stepz=1",)), "--each stepz: GenerationSettings has no field 'stepz'"),
        (BatchOptions(("steps=1,x",)), "--each steps: 'x' is no whole number"),
        (BatchOptions(('prompt="a',)), "--each prompt: unexpected end of data"),
        (BatchOptions(runs=2**31), "--runs: 2147483648 does not fit into 32 bits"),
    ],
)
def test_what_makes_no_batch_is_refused(options: BatchOptions, said: str) -> None:
    with pytest.raises(UnusableOptions) as refused:
        batch_request(inference_pb2.GenerateRequest(), options, input_image)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--each", "steps=1", "--items", "a.csv"), "--items names every item: leave --each"),
        (("--runs", 2, "--items", "a.csv"), "--items names every item: leave --each"),
        (("--share",), "--share is for batches"),
        (("--runs", 2, "--dry-run"), "--dry-run tells of one generation"),
    ],
)
def test_options_that_do_not_go_together_are_not_sent(
    arguments: tuple[object, ...], said: str, deviceops: Run
) -> None:
    done = deviceops("generate", "x", *arguments)

    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_items_that_fail_are_told_and_end_the_command_with_one(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The others' pictures are saved."""
    scripted.on_batch = lambda request, context: drawn("0", "1", "2", failing=("1",))
    arguments = ("generate", "x", "--each", "steps=1,99,2", "-o", tmp_path)

    done = against(*arguments)
    lines = [json.loads(line) for line in against(*arguments, "--json").stdout.splitlines()]

    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 2
    assert "1: 2/3, failed: Device memory does not suffice." in done.stderr.splitlines()
    assert "2 of 3 items worked, 1 failed" in done.stderr.splitlines()
    assert done.stderr.endswith(
        "Error: 1 of 3 items failed.\n"
        "  1 (steps=99): Device memory does not suffice. (DEVICE_OUT_OF_MEMORY)\n"
    )
    summary = lines[-1]
    assert (summary["state"], summary["exit_code"]) == ("completed", 1)
    assert [item["item_id"] for item in summary["items"]] == ["0", "1", "2"]
    assert summary["error"]["violations"][0]["reason"] == "DEVICE_OUT_OF_MEMORY"
    events = [line["event"] for line in lines if line["type"] == "event"]
    ended = [each["item_finished"]["item_id"] for each in events if "item_finished" in each]
    assert [each for each in ended if each not in ("tile", "step")] == ["0", "1", "2"]


def test_a_refusal_says_which_line_or_value_it_is_about(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    def refused(field: str) -> None:
        def answer(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
            fields = error_details_pb2.BadRequest()
            fields.field_violations.add(field=field, description="No.")
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, "FIELD_OUT_OF_RANGE"
            refuse(context, code, "It has a fault.", reason, fields)
            yield from ()

        scripted.on_batch = answer

    table = tmp_path / "items.csv"
    table.write_text("steps\nmany\n")
    done = against("generate", "x", "--items", table, "-o", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: --items {table}: line 2, column steps: 'many' is")
    assert scripted.requests == []

    table.write_text("steps\n1\n\n0\n")
    refused("items[1].overlay.settings.steps")
    done = against("generate", "x", "--items", table, "-o", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.endswith(
        f"  items[1].overlay.settings.steps: No.\n  items[1] is line 4 of {table}\n"
    )

    refused("matrix.axes[0].values[1].settings.steps")
    done = against("generate", "x", "--each", "steps=1,0", "-o", tmp_path)
    assert done.stderr.endswith("  matrix.axes[0].values[1] is --each steps=0\n")


def test_names_of_items_lead_nowhere_else(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """And files of one name are numbered by picture."""
    names = ("../../evil", "é" * 128)
    scripted.on_batch = lambda request, context: drawn(*names)

    folder = against("generate", "x", "--runs", 2, "-o", tmp_path / "out")
    file = against("generate", "x", "--runs", 2, "-o", tmp_path / "a.png")

    hashes = [sha256(png((at, 0, 0)))[:12] for at in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [f"_.._evil-0-{hashes[0]}.png", f"{'é' * 60}-1-{hashes[1]}.png"]
    )
    assert folder.exit_code == file.exit_code == 0, folder.output + file.output
    assert (tmp_path / "a-_.._evil-0.png").read_bytes() == png((0, 0, 0))


def test_pictures_of_a_batch_are_stored_once_and_named_by_id(
    against: Run, draws: ScriptedServer, tmp_path: Path
) -> None:
    """Sixty-four times a picture would not fit a message."""
    (tmp_path / "photo.png").write_bytes(png())

    done = against(
        *("generate", "x", "--image", tmp_path / "photo.png", "-o", tmp_path),
        *("--each", "image_to_image.strength=0.2,0.4"),
    )

    assert done.exit_code == 0, done.output
    assert list(draws.artifacts) == [sha256(png())]
    starts = [each.image_to_image for each in values(batch(draws).matrix.axes[0])]
    assert [(each.image.artifact_id, each.strength) for each in starts] == [
        (sha256(png()), strength) for strength in (0.2, 0.4)
    ]


def test_a_detached_batch_goes_on_over_a_lost_connection(
    against: Run, scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.cli.following.time.sleep", lambda seconds: None)
    events = list(drawn("0", "1"))
    half = next(at for at, each in enumerate(events) if each.HasField("item_finished")) + 1

    def broken(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield from events[:half]
        drop(context)

    scripted.on_batch = broken
    scripted.on_watch = lambda request, context: iter(events[half:])
    done = against("generate", "x", "--runs", 2, "--detach", "-o", tmp_path)

    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 2
    (watch,) = scripted.of_type(processing_pb2.WatchSessionRequest)
    assert watch.from_sequence == events[half - 1].sequence + 1
    assert "2 of 2 items worked, 0 failed" in done.stderr


def test_a_cancelled_batch_says_what_was_finished(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    def cancelled(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield from (each for each in drawn("0", "1", "2") if each.sequence <= 5)
        yield event(6, cancelled=event_pb2.SessionCancelled(reason_text="enough"))

    scripted.on_batch = cancelled
    done = against("generate", "x", "--runs", 3, "-o", tmp_path)

    assert done.exit_code == 130
    assert "1 of 3 items worked, 0 failed, 2 were not finished" in done.stderr
    assert "(enough); pictures saved: 1." in done.stderr
