"""Run one generation: send it, follow it, keep its pictures, and say how it ended."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from google.protobuf import json_format

from deviceops.v1 import common_pb2, device_info_pb2, errors_pb2, event_pb2, session_pb2
from server.cli.choices import FORMATS, UnusableOptions
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure
from server.cli.field_values import Picture
from server.cli.files import save
from server.cli.following import Ending, Follower, Manner
from server.cli.input_image import input_image
from server.cli.live import DEFAULT_PREVIEW_STEPS, draws_previews, terminal
from server.cli.narration import degradations
from server.cli.pictures import Assembly, SavedPicture, name_for, names_file, seed_of
from server.cli.request import GenerationOptions, format_of_suffix, generate_request
from server.cli.upload import upload
from server.cli.views import View, chosen, picture_facts
from server.cli.wording import duration, enum_word, printable, seconds_of

DEFAULT_OUTPUT = Path("out")


def run(
    client: Client, options: GenerationOptions, output: Path | None, *, as_json: bool
) -> Exit:
    """Draw, save, and show both; the exit code.

    Without an output pictures go into the folder `out`; without data they stay with the
    server, and their ids are shown.

    Raises:
        UnusableOptions: The options make no request.
        CallFailed: The server refused, the connection was lost, or a picture arrived
            damaged or could not be written.
    """
    folder = output_folder(options, output)
    options = completed_options(options, output, as_json=as_json)
    request = generate_request(options, picture_of(client))
    with chosen(as_json=as_json) as view:
        for said in () if options.like is None else options.like.notes:
            view.note(said)
        keeper = PictureKeeper(folder, view, data=not options.no_data)
        follower = Follower(
            client,
            handle=keeper.take,
            note=view.note,
            manner=Manner(reattach=options.detach, delivery=request.delivery),
        )
        try:
            ending = follower.follow(lambda: client.inference.Generate(request))
        except CallFailed as error:
            request_id = request.options.request_id
            raise CallFailed(repeatable(error.failure, request_id)) from error
    facts = {
        "request_id": request.options.request_id,
        "pictures": [picture_facts(picture) for picture in keeper.saved],
        **ending_facts(ending),
    }
    return conclude(view, ending, ending_lines(ending, keeper), facts, as_json=as_json)


def output_folder(options: GenerationOptions, output: Path | None) -> Path:
    """Where pictures go: the folder or the file that `output` names.

    Raises:
        UnusableOptions: Nothing is saved, and a place for it is named.
    """
    if options.no_data and output is not None:
        raise UnusableOptions("--no-data saves nothing: leave --output out")
    return output or DEFAULT_OUTPUT


def picture_of(client: Client) -> Picture:
    """Makes pictures that people name such as requests take; large files are stored first."""
    return lambda picture: input_image(picture, lambda path: _stored(client, path))


def stored_picture_of(client: Client) -> Picture:
    """The same, and every file is stored, once: a batch may name it with each of its items."""

    @cache
    def made(picture: str) -> common_pb2.InputImage:
        image = picture_of(client)(picture)
        if image.WhichOneof("source") == "inline":
            image = common_pb2.InputImage(artifact_id=_stored(client, Path(picture)))
        return image

    return made


def _stored(client: Client, path: Path) -> str:
    """The artifact of a file that is too large for a message."""
    return upload(client, path, None, None).artifact.artifact_id


class PictureKeeper:
    """Passes events on to the view and saves the pictures among them.

    Args:
        output: Folder, or file, as `name_for` reads it.
        view: Gets every event.
        data: Whether pictures come in the stream; else only their ids do.
        unseeded: As `name_for` has it.
    """

    def __init__(
        self, output: Path, view: View, *, data: bool = True, unseeded: str = "picture"
    ) -> None:
        self._output = output
        self._view = view
        self._data = data
        self._unseeded = unseeded
        self._assembly = Assembly()
        self._image_count = 1
        self.saved: list[SavedPicture] = []
        self.left = 0  # pictures that stayed with the server, as was asked

    def take(self, event: event_pb2.SessionEvent) -> None:
        """Show the event; when it finishes a picture, save that.

        Raises:
            CallFailed: The picture arrived damaged or not at all, or cannot be written.
        """
        self._view.event(event)
        match event.WhichOneof("event"):
            case "accepted":
                self._image_count = max(1, len(event.accepted.seeds))
            case "image_chunk":
                self._assembly.add(event.image_chunk)
            case "image_finished":
                if event.image_finished.data_missing:
                    raise CallFailed(_missing(event.image_finished))
                self._keep(event.image_finished.image)

    def _keep(self, result: session_pb2.ImageResult) -> None:
        if not result.artifact_id:
            self._view.note(
                f"Picture {result.image_index + 1} was withheld by safety policy"
                f" {result.safety.policy_id}."
            )
            return
        if not self._data:
            self.left += 1
            self._view.left(result)
            return
        data = self._assembly.take(result)
        path = name_for(result, self._output, self._image_count, self._unseeded)
        try:
            path = save(data, path)
        except OSError as error:
            raise CallFailed(_unwritable(path, error, result)) from error
        picture = SavedPicture(
            result.image_index,
            seed_of(result),
            result.artifact_id,
            path,
            result.width,
            result.height,
            len(data),
        )
        self.saved.append(picture)
        self._view.saved(picture)


def completed_options(
    options: GenerationOptions, output: Path | None, *, as_json: bool
) -> GenerationOptions:
    """The options with what follows from the output's name and from the terminal.

    Raises:
        UnusableOptions: Its ending is of another format than is asked for.
    """
    previews = options.preview_every
    if previews is None:
        drawn = not as_json and draws_previews(terminal())
        previews = DEFAULT_PREVIEW_STEPS if drawn else 0
    return replace(
        options, format=fitting_format(options.format, output), preview_every=previews
    )


def fitting_format(asked: str | None, output: Path | None) -> str | None:
    """The format that is asked for, or else the one that the output's name ends with.

    Raises:
        UnusableOptions: Its ending is of another format than is asked for.
    """
    ending = format_of_suffix(output) if output is not None and names_file(output) else None
    if output is not None and ending and asked:
        wanted = FORMATS.get(asked.lower())
        if wanted is not None and wanted != FORMATS[ending]:
            raise UnusableOptions(f"--format {asked} does not fit --output {output.name}")
    return asked or ending


def ending_facts(ending: Ending) -> dict[str, object]:
    """What a completed generation came to, for programs."""
    if ending.terminal is None or ending.state != "completed":
        return {}
    completed = ending.terminal.completed
    return {
        "device_id": completed.placement.device_id,
        "placement_reason": enum_word(
            device_info_pb2.PlacementReason, completed.placement.reason, "PLACEMENT_REASON_"
        ),
        "degradations": degradations(completed),
        "timings": json_format.MessageToDict(
            completed.timings, preserving_proto_field_name=True
        ),
    }


def ending_lines(ending: Ending, keeper: PictureKeeper) -> list[str]:
    """What the generation came to, for people; a failure is shown by itself."""
    if ending.terminal is None:
        return ["Left before the session's end."]
    if ending.state == "cancelled":
        why = printable(ending.terminal.cancelled.reason_text)
        said = f" ({why})" if why else ""
        count = len(keeper.saved)
        return [f"Cancelled session {ending.session_id}{said}; pictures saved: {count}."]
    if ending.state != "completed":
        return []
    completed = ending.terminal.completed
    total = duration(seconds_of(completed.timings.total))
    count = keeper.left or len(keeper.saved)
    noun = "picture" if count == 1 else "pictures"
    kept = ", kept by the server" if keeper.left else ""
    return [
        f"{count} {noun} in {total} on {printable(completed.placement.device_id)}{kept}",
        *(f"  note: {line}" for line in degradations(completed)),
    ]


def repeatable(failure: CallFailure, request_id: str) -> CallFailure:
    """With the request id, where sending the same again may help."""
    if failure.status != "UNAVAILABLE" or not failure.from_server:
        return failure
    again = f"Safe to repeat with --request-id {request_id}"
    return replace(failure, advice="\n".join(filter(None, [failure.advice, again])))


def _missing(finished: event_pb2.ImageFinished) -> CallFailure:
    reason = enum_word(errors_pb2.ErrorReason, finished.data_missing, "ERROR_REASON_")
    return CallFailure(
        status="DATA_LOSS",
        message=f"Picture {finished.image.image_index + 1} is finished, and its file cannot be"
        f" had from the server any more ({reason}).",
        advice=f"Draw it again: the same request with --seed {finished.image.seed}",
    )


def _unwritable(path: Path, error: OSError, result: session_pb2.ImageResult) -> CallFailure:
    return CallFailure(
        status="LOCAL",
        message=f"{path} cannot be written: {error.strerror or error}",
        advice="The server keeps the picture:"
        f" deviceops artifacts get {result.artifact_id} -o FILE",
    )
