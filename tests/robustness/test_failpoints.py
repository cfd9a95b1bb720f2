"""The server and its workers die at every point with a name, and nothing promised is broken.

One data folder sees all of these deaths, so that what one leaves behind is there for the next.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from domains import failpoints
from tests.e2e.test_durable_batches import asked, item
from tests.fakes.tiny_models import save_sd1
from tests.robustness.cluster import Cluster, Notes
from tests.robustness.history import save
from tests.robustness.players import Player
from tests.robustness.rules import broken
from tests.running import ServerEnded

_ROOT = Path(__file__).parents[2]
# What each server's life ends with, in the order of lives, after what its worker dies of. What
# is left of earlier lives may fail as soon as a server starts, which is an end as well.
LIVES = (
    ("worker.done", "session.before-end"),
    ("session.before-acceptance",),
    ("journal.before-commit",),
    ("session.accepted",),
    ("session.taking-up",),
    ("batch.items-written",),
    ("batch.item-begun",),
    ("worker.begun", "picture.taken-over"),
    ("worker.step", "artifact.described"),
    ("worker.picture-written", "artifact.renamed"),
    ("session.end-written",),
    ("batch.item-ended",),
    ("batch.item-written",),
)


def named_in_the_code() -> dict[str, int]:
    """The names of all points, and how often each is there."""
    found: dict[str, int] = {}
    for folder in ("domains", "server"):
        for file in (_ROOT / folder).rglob("*.py"):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if "failpoints" in text else ():
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach":
                    (name,) = node.args
                    assert isinstance(name, ast.Constant)
                    found[str(name.value)] = found.get(str(name.value), 0) + 1
    return found


def test_every_point_is_one_of_those_that_kill_and_stands_once() -> None:
    killing = [name for life in LIVES for name in life]
    assert len(killing) == len(set(killing))
    assert named_in_the_code() == dict.fromkeys(killing, 1)


def test_without_its_variables_a_point_is_nothing(tmp_path: Path) -> None:
    nothing = failpoints.armed({})
    assert failpoints.reach is nothing
    for partly in ({"FAILPOINTS": "a"}, {"FAILPOINT_MARKS": str(tmp_path)}):
        assert failpoints.armed(partly) is nothing


def test_a_point_kills_once_and_no_other_does(tmp_path: Path) -> None:
    code = "from domains import failpoints as f; f.reach('b'); f.reach('a'); print('alive')"
    environment = {"FAILPOINTS": "a,c", "FAILPOINT_MARKS": str(tmp_path), "PYTHONPATH": "."}
    for expected in (-signal.SIGKILL, 0):
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=_ROOT, check=False
        )
        assert ran.returncode == expected
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


async def send(player: Player) -> None:
    """A picture, and a batch of two, until they are accepted."""
    await player.send_one()
    await player.send_batch(asked(item("a"), item("b", steps=1)))


@pytest.mark.matrix  # minutes; test_histories kills at random moments in each run
@pytest.mark.timeout(600)
async def test_promises_hold_over_a_death_at_every_point(tmp_path: Path) -> None:
    save_sd1(tmp_path / "models" / "small")
    marks = tmp_path / "marks"
    marks.mkdir()
    notes = Notes()
    cluster = Cluster(tmp_path / "data", "--model-root", str(tmp_path / "models"), notes=notes)
    player = Player("anna", cluster.named("anna"), cluster, notes, Random(7))
    sending: list[asyncio.Task[None]] = []
    try:
        for life in LIVES:
            armed = {failpoints.NAMES: ",".join(life), failpoints.MARKS: str(marks)}
            with contextlib.suppress(ServerEnded):  # before it served
                await cluster.start(**armed)
                sending.append(asyncio.create_task(send(player)))
                async with asyncio.timeout(90):
                    await cluster.died()
            assert set(life) <= {each.name for each in marks.iterdir()}
        await cluster.start()
        async with asyncio.timeout(120):
            await asyncio.gather(*sending)
            await player.rest()
            await player.look_back()
    finally:
        cluster.stop()
        save(notes.records, tmp_path / "history.jsonl")
    assert {each.name for each in marks.iterdir()} == {name for life in LIVES for name in life}
    assert not broken(notes.records)
