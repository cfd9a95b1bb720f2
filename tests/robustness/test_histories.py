"""Servers and workers are killed while clients work, and nothing that was promised is broken.

The seed decides what clients do and what is killed after which event; how fast processes are
does not repeat. A history that breaks a rule is left beside the server's data and named in the
failure: `tests.robustness.rules.broken(load(path))` checks it again.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.fakes.tiny_models import save_sd1
from tests.robustness.cluster import Cluster, Notes
from tests.robustness.history import Killed, save
from tests.robustness.players import Player
from tests.robustness.rules import broken

_NAMES = ("anna", "ben", "cleo")
_AFTER = ("step_finished", "image_finished", "phase_started", "completed", "image_decoded")
_PATIENCE_SECONDS = 40.0
SEED = "ROBUSTNESS_SEED"
"""Names the seed to run again; another one each time without it."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_sd1(folder / "small")
    return folder


def chosen_seed() -> int:
    given = os.environ.get(SEED)  # noqa: TID251  a test's own
    return int(given) if given else SystemRandom().randrange(1 << 32)


async def disturb(cluster: Cluster, notes: Notes, random: Random, kills: list[str]) -> None:
    """Kill what is said, each after an event or a moment that the seed decides."""
    for what in kills:
        if what == "early":  # no worker is there yet
            await asyncio.sleep(random.uniform(0.05, 1.5))
            await cluster.kill_front()
            continue
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await notes.until(random.choice(_AFTER), random.randint(1, 3))
        except TimeoutError:
            return  # all has ended
        await asyncio.sleep(random.uniform(0.0, 0.05))
        await (cluster.kill_front() if what == "front" else cluster.kill_worker())


async def history_of(
    seed: int, data: Path, root: Path, *, players: int, pieces: int, kills: list[str]
) -> Notes:
    """What so many clients saw of so many pieces of work each."""
    notes = Notes()
    cluster = Cluster(data, "--model-root", str(root), notes=notes)
    try:
        tokens = {name: cluster.named(name) for name in _NAMES[:players]}
        await cluster.start()
        team = [
            Player(name, token, cluster, notes, Random(f"{seed} {name}"))
            for name, token in tokens.items()
        ]
        disturbance = asyncio.create_task(disturb(cluster, notes, Random(seed), kills))
        await asyncio.gather(*(player.play(pieces) for player in team))
        disturbance.cancel()
        await asyncio.gather(disturbance, return_exceptions=True)
        await asyncio.gather(*(player.look_back() for player in team))
    finally:
        cluster.stop()
        save(notes.records, data / "history.jsonl")
    return notes


async def check(seed: int, data: Path, root: Path, **how: object) -> Notes:
    print(f"seed {seed}: {SEED}={seed} runs it again")
    notes = await history_of(seed, data, root, **how)  # type: ignore[arg-type]
    wrong = broken(notes.records)
    assert not wrong, f"seed {seed}, {data / 'history.jsonl'}:\n" + "\n".join(wrong[:20])
    return notes


async def test_promises_hold_over_a_kill_of_what_works(root: Path, tmp_path: Path) -> None:
    seed = chosen_seed()
    kills = [Random(seed).choice(("front", "worker"))]
    async with asyncio.timeout(120):
        notes = await check(seed, tmp_path / "data", root, players=2, pieces=4, kills=kills)
    assert [each.what for each in notes.records if isinstance(each, Killed)] == kills


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(6))
async def test_promises_hold_over_many_kills(root: Path, tmp_path: Path, number: int) -> None:
    seed = chosen_seed() + number
    random = Random(seed)
    # Of one server's life at most two workers: a third would bar the model, as it should.
    lives = [["worker"] * random.randint(0, 2) + [random.choice(("front", "early"))]]
    lives += [["worker"] * random.randint(0, 2) + ["front"] for _ in range(3)]
    kills = [each for life in lives for each in life]
    async with asyncio.timeout(600):
        await check(seed, tmp_path / "data", root, players=3, pieces=12, kills=kills)
