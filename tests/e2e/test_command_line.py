"""The command line against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.programs import objects, run
from tests.running import RunningServer


def deviceops(server: RunningServer, *arguments: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "server.cli", "--server", server.address),
        *("--token-file", str(server.data_dir / "runtime" / "token"), *arguments),
    )


async def test_the_command_line_draws_saves_and_shows(
    server: RunningServer, tmp_path: Path
) -> None:
    target = tmp_path / "apple.png"

    code, out, err = await run(
        *deviceops(server, "generate", "a red apple", "--steps", "2", "--seed", "3"),
        *("-o", str(target), "--json"),
    )

    assert code == 0, err
    lines = objects(out)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert str(target) in json.dumps(lines[-1])
    session_id = lines[-1]["session_id"]
    code, out, err = await run(*deviceops(server, "sessions", "show", session_id, "--json"))
    assert code == 0, err
    assert "COMPLETED" in out


@pytest.mark.demonstration
async def test_a_table_of_items_is_drawn_and_a_matrix_refused_with_the_option_at_fault(
    server: RunningServer, tmp_path: Path
) -> None:
    table = tmp_path / "items.csv"
    table.write_text('item_id,prompt,steps\nred,"an apple, red",\nrobot/1,a robot,3\n')
    draw = (*deviceops(server, "generate", "--steps", "2", "--seed", "3"), "-o", str(tmp_path))

    code, out, err = await run(*draw, "--items", str(table), "--share")
    refused = await run(*draw, "--each", "steps=2,0", "--each", "guidance.scale=1,5")

    assert code == 0, err
    paths = [Path(line) for line in out.splitlines()]
    assert sorted(path.name.rsplit("-", 1)[0] for path in paths) == ["red-3", "robot_1-3"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert "Picture 2 (robot/1): step 3/3\n" in err
    assert "robot/1: 2/2\n" in err
    assert "2 of 2 items worked, 0 failed\n" in err
    assert refused[0] == 2, refused
    assert refused[2].endswith("matrix.axes[0].values[1] is --each steps=0\n"), refused


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("devices",), 0, "cpu:0"),
        (("models",), 0, "emoji-xl"),
        (("generate", "x", "--width", "257"), 2, "settings.width"),
        (("generate", "x", "--model", "nothing"), 4, "MODEL_NOT_FOUND"),
    ],
)
async def test_the_command_line_says_what_is_there_and_what_is_wrong(
    server: RunningServer, arguments: tuple[str, ...], code: int, said: str
) -> None:
    got, out, err = await run(*deviceops(server, *arguments), COLUMNS="200")

    assert got == code, out + err
    assert said in out + err


async def test_it_says_where_it_draws_and_why(server: RunningServer, tmp_path: Path) -> None:
    code, _, err = await run(
        *deviceops(server, "generate", "a red apple", "--steps", "2", "--any-of", "cpu"),
        *("-o", str(tmp_path / "apple.png")),
    )

    assert code == 0, err
    assert "generation on cpu:0 (" in err


async def test_pictures_can_stay_with_the_server(server: RunningServer, tmp_path: Path) -> None:
    code, out, err = await run(
        *deviceops(server, "generate", "a red apple", "--steps", "2", "--seed", "3"),
        "--no-data",
    )
    artifact_id = out.strip()
    got, _, said = await run(
        *deviceops(server, "artifacts", "get", artifact_id, "-o", str(tmp_path / "a.png"))
    )

    assert code == 0, err
    assert got == 0, said
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


async def test_the_server_says_what_it_is(server: RunningServer) -> None:
    code, out, err = await run(*deviceops(server, "server", "info", "--json"))
    _, limits, _ = await run(*deviceops(server, "server", "info", "--limits"))

    assert code == 0, err
    (info,) = objects(out)
    built = {feature["name"]: feature["built"] for feature in info["features"]}
    assert info["server_version"] == version("device-operations")
    assert info["client_role"] == "CLIENT_ROLE_ADMIN"
    assert built["InferenceService.Generate"]
    assert "GenerationSettings.width\tpixels\t256\t2048\t8" in limits


async def test_a_file_goes_there_and_comes_back(server: RunningServer, tmp_path: Path) -> None:
    """Of several chunks; the second time nothing is sent."""
    data = os.urandom(3 << 20)
    (tmp_path / "file.bin").write_bytes(data)

    first = await run(*deviceops(server, "upload", str(tmp_path / "file.bin")))
    second = await run(*deviceops(server, "upload", str(tmp_path / "file.bin")))
    copy = tmp_path / "copy.bin"
    got = await run(*deviceops(server, "artifacts", "get", first[1].strip(), "-o", str(copy)))

    assert first[0] == second[0] == got[0] == 0, (first, second, got)
    assert second[1] == first[1]
    assert "It was there already." in second[2]
    assert copy.read_bytes() == data


async def test_a_run_that_takes_too_long_says_so(server: RunningServer, tmp_path: Path) -> None:
    code, _, err = await run(
        *deviceops(server, "generate", "a red apple", "--steps", "150"),
        *("--run-timeout", "0.2", "-o", str(tmp_path / "apple.png")),
    )

    assert code == 1
    assert "DEADLINE_EXPIRED" in err
    assert "It ran longer than its --run-timeout" in err


async def test_what_is_not_built_yet_is_said_so(server: RunningServer, tmp_path: Path) -> None:
    code, _, err = await run(
        *deviceops(server, "generate", "a dog", "--set", "precision.cpu_offload=on"),
        *("-o", str(tmp_path / "dog.png")),
    )

    assert code == 1
    assert "NOT_BUILT (UNIMPLEMENTED)" in err
    assert "deviceops server info" in err


async def test_all_sessions_are_followed_changed_and_cancelled(
    server: RunningServer, tmp_path: Path
) -> None:
    """One that runs for long, seen from another process from beginning to end."""
    tag = f"tag-{os.getpid()}"
    watch = await asyncio.create_subprocess_exec(
        *deviceops(server, "sessions", "watch", "--tag", tag, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert watch.stdout is not None
    async with asyncio.timeout(60):
        first = json.loads(await watch.stdout.readline())
    drawing = asyncio.create_task(
        run(
            *deviceops(server, "generate", "a red apple", "--steps", "150", "--tag", tag),
            *("-o", str(tmp_path / "apple.png")),
        )
    )
    try:
        async with asyncio.timeout(120):
            kinds, session_id = [], ""
            while "SESSION_CHANGE_KIND_ENDED" not in kinds:
                change = json.loads(await watch.stdout.readline())
                kinds.append(change["kind"])
                if "session" in change and not session_id:
                    session_id = change["session"]["session_id"]
                    update = deviceops(server, "sessions", "update", session_id)
                    tags = ("--tag", tag, "--tag", "seen")
                    changed = await run(*update, *tags, "--retention", "2h")
                    queue = await run(*deviceops(server, "sessions", "queue", "cpu", "--json"))
                    cancel = deviceops(server, "sessions", "cancel", "--tag", tag)
                    cancelled = await run(*cancel, "--reason", "seen enough")
            watch.send_signal(signal.SIGINT)
            _, err = await watch.communicate()
        code, _, said = await drawing
        shown = await run(*deviceops(server, "sessions", "show", session_id))
    finally:
        drawing.cancel()

    assert first["kind"] == "SESSION_CHANGE_KIND_SNAPSHOT_END"
    assert "SESSION_CHANGE_KIND_ADDED" in kinds
    assert changed[0] == 0, changed
    assert queue[0] == 0, queue
    assert cancelled[1] == "1 session cancelled.\n", cancelled
    assert watch.returncode == 0, err
    assert (code, "seen enough" in said) == (130, True), said
    assert f"{tag}, seen" in shown[1]
