"""The commands about models in main memory, against a scripted server."""

from __future__ import annotations

import json

import pytest

from deviceops.v1 import event_pb2, model_cache_pb2, model_info_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, event
from tests.server.cli.scripted import ScriptedServer

MIB = 1 << 20


@pytest.fixture
def machine(scripted: ScriptedServer) -> ScriptedServer:
    cache = scripted.cache
    cache.entries.add(model_id="ink", size_bytes=3 * MIB, pinned=True, hit_count=2)
    cache.used_bytes, cache.budget_bytes = 3 * MIB, 64 * MIB
    cache.hit_count, cache.miss_count, cache.eviction_count = 2, 1, 4
    cache.remark = "No worker has page-locked it."
    return scripted


def test_status_is_one_row_for_each_model(against: Run, machine: ScriptedServer) -> None:
    done = against("models", "cache", "status")

    heading, ink = [line.split("\t") for line in done.stdout.splitlines()]
    assert heading[0] == "model"
    assert (ink[0], ink[1], ink[3], ink[4]) == ("ink", "3.0 MiB", "2", "yes")
    assert "3.0 MiB of 64.0 MiB used; 2 loads from here, 1 from disk, 4 went for" in done.stderr
    assert "page-locked" in done.stderr
    told = json.loads(against("models", "cache", "status", "--json").stdout)
    assert told["entries"][0]["model_id"] == "ink"


def test_add_follows_the_reading_to_its_end(against: Run, machine: ScriptedServer) -> None:
    last = event(2, completed=event_pb2.SessionCompleted(model=model_info_pb2.ModelInfo()))
    machine.loading = [accepted(), last]

    done = against("models", "cache", "add", "ink", "--pin")

    assert done.exit_code == 0
    (asked,) = machine.of_type(model_cache_pb2.CacheModelRequest)
    assert (asked.model_id, asked.pinned) == ("ink", True)


def test_evict_says_what_it_freed(against: Run, machine: ScriptedServer) -> None:
    assert "3.0 MiB freed" in against("models", "cache", "evict", "ink").stdout
    assert "was not in main memory" in against("models", "cache", "evict", "other").stdout


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("16GiB", 16 << 30),
        ("1.5g", 3 << 29),
        ("512 MiB", 512 << 20),
        ("7", 7),
        ("0", 0),
        ("server", None),
    ],
)
def test_a_budget_is_a_size(
    against: Run, machine: ScriptedServer, said: str, asked: int | None
) -> None:
    assert against("models", "cache", "budget", said).exit_code == 0

    (request,) = machine.of_type(model_cache_pb2.SetCacheBudgetRequest)
    assert (request.budget_bytes if request.HasField("budget_bytes") else None) == asked


@pytest.mark.parametrize("said", ["much", "-1", "1e9", "16 PiB", ""])
def test_what_is_no_size_is_bad_input(against: Run, machine: ScriptedServer, said: str) -> None:
    done = against("models", "cache", "budget", "--", said)

    assert done.exit_code == 2
    assert machine.of_type(model_cache_pb2.SetCacheBudgetRequest) == []
