"""`deviceops batch`: lists that are cut off, and batches that are sent in pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from deviceops.v1 import batch_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import refuse
from tests.server.cli.scripted import ScriptedServer


@pytest.mark.parametrize("command", [("batch",), ("batch", "show", "bat-1")])
def test_a_list_that_is_cut_off_says_so_on_its_last_page_too(
    against: Run, scripted: ScriptedServer, command: tuple[str, ...]
) -> None:
    """And its token goes on where it was cut off."""
    scripted.batch_count = 1_300

    done = against(*command, "--limit", "1200")
    told = json.loads(against(*command, "--limit", "1200", "--json").stdout)
    whole = against(*command, "--limit", "1300")

    assert "There are more than 1200" in done.stderr
    assert len(told["batches" if len(command) == 1 else "items"]) == 1_200
    assert told["next_page_token"] == "1200"
    assert whole.stderr == ""


def test_a_batch_of_which_a_later_piece_is_refused_is_named(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The server works off what came before, and would wait for the rest for good."""

    def wrong(request: Any, context: Any) -> None:
        field = error_details_pb2.BadRequest.FieldViolation(
            field="items[4].overlay.settings.steps", description="Must be from 1 to 150."
        )
        details = error_details_pb2.BadRequest(field_violations=[field])
        code = grpc.StatusCode.INVALID_ARGUMENT
        refuse(context, code, "Is wrong.", "FIELD_OUT_OF_RANGE", details)

    scripted.on_control = wrong
    file = tmp_path / "items.csv"
    file.write_text("steps\n" + "2\n" * 1_004 + "999\n")

    done = against("batch", "create", file, "--prompt", "x")

    assert done.exit_code == 2
    assert "items[4] is line 1006" in done.stderr
    assert "deviceops batch cancel bat-1" in done.stderr
    [created] = scripted.of_type(batch_pb2.CreateBatchRequest)
    assert f"--request-id {created.options.request_id}" in done.stderr


def test_a_batch_that_is_interrupted_while_it_is_sent_is_named(
    against: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.cli.client import Client

    ask = Client.ask

    def interrupted(client: Client, method: Any, request: Any, **rest: Any) -> Any:
        if isinstance(request, batch_pb2.AddBatchItemsRequest):
            raise KeyboardInterrupt
        return ask(client, method, request, **rest)

    monkeypatch.setattr(Client, "ask", interrupted)
    file = tmp_path / "items.csv"
    file.write_text("steps\n" + "2\n" * 1_005)

    done = against("batch", "create", file, "--prompt", "x")

    assert done.exit_code == 130
    assert "deviceops batch cancel bat-1" in done.stderr


def test_a_batch_that_is_refused_whole_is_none(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.stop()
    file = tmp_path / "items.csv"
    file.write_text("steps\n2\n")

    done = against("batch", "create", file, "--prompt", "x")

    assert done.exit_code == 3
    assert "batch cancel" not in done.stderr
