"""What a generation would come to, told without drawing: where, how long, how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from deviceops.v1 import common_pb2, inference_pb2
from server.cli.choices import UnusableOptions
from server.cli.client import Client
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, Violation, from_failure
from server.cli.generation import completed_options, picture_of
from server.cli.narration import phase_words
from server.cli.output import details, table
from server.cli.placing import placed
from server.cli.request import GenerationOptions, generate_request
from server.cli.views import write_message
from server.cli.wording import byte_figure, duration, enum_word, printable, seconds_of


def run(
    client: Client, options: GenerationOptions, output: Path | None, *, as_json: bool
) -> Exit:
    """Ask the server what it would make of the options, and show it; the exit code is that of
    the drawing that would be refused.

    Raises:
        UnusableOptions: The options make no request.
        CallFailed: The server cannot be asked, or would refuse it and people are told.
    """
    if options.detach:
        raise UnusableOptions("--dry-run starts nothing: leave --detach out")
    options = completed_options(options, output, as_json=as_json)
    found = client.ask(
        client.inference.ValidateGeneration,
        inference_pb2.ValidateGenerationRequest(
            request=generate_request(options, picture_of(client))
        ),
    )
    refused = _refusal(found)
    if as_json:
        write_message(found)
        return Exit.OK if refused is None else refused.exit
    if refused is not None:
        raise CallFailed(refused)
    _show(found)
    return Exit.OK


def _refusal(found: inference_pb2.ValidateGenerationResponse) -> CallFailure | None:
    """Why Generate would refuse it; None where it would not."""
    if found.violations:
        first, *others = {violation.reason for violation in found.violations}
        return CallFailure(
            status="INVALID_ARGUMENT",
            message="The server would refuse the request.",
            reason=found.violations[0].reason if others else first,
            metadata={"violations_omitted": str(found.violations_omitted)},
            violations=tuple(
                Violation(each.field, each.description, each.reason)
                for each in found.violations
            ),
        )
    return None if found.valid else from_failure(found.failure)


def _show(found: inference_pb2.ValidateGenerationResponse) -> None:
    """The figures, memory by phase, every setting, and what would be otherwise than asked."""
    ahead = found.queue_position
    details(
        [
            ("where", placed(found.placement)),
            ("waiting", f"{ahead} ahead" if ahead else "nobody ahead"),
            ("phases", ", ".join(map(phase_words, found.expected_phases))),
            ("time", _time(found)),
            ("memory", _memory(found)),
        ]
    )
    table(
        ("phase", "memory with the weights"),
        [(phase_words(one.phase), byte_figure(one.needed)) for one in found.phase_memory],
    )
    table(("setting", "value"), _settings(found))
    for each in found.degradations:
        kind = enum_word(common_pb2.DegradationKind, each.kind, "DEGRADATION_KIND_")
        print(f"note: {printable(each.detail) or kind}")


def _time(found: inference_pb2.ValidateGenerationResponse) -> str:
    if not found.HasField("estimated_duration"):
        return "not known: nothing like it was drawn there yet"
    return f"about {duration(seconds_of(found.estimated_duration))} on the device"


def _memory(found: inference_pb2.ValidateGenerationResponse) -> str:
    """What it takes, what there is, and whether that will do."""
    if not found.HasField("fits"):
        return f"{byte_figure(found.memory)} at the peak"
    verdict = "fits" if found.fits else "probably too little"
    there = byte_figure(found.available_memory)
    return f"{byte_figure(found.memory)} at the peak, {there} to be had: {verdict}"


def _settings(
    found: inference_pb2.ValidateGenerationResponse,
) -> Iterator[tuple[str, str]]:
    """Every setting by the path that `--set` takes."""
    yield from _flat(
        json_format.MessageToDict(found.effective_settings, preserving_proto_field_name=True),
        "",
    )


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for index, each in enumerate(value):
            yield from _flat(each, f"{path}.{index}")
    elif isinstance(value, list):
        yield path, ",".join(map(str, value))
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)
