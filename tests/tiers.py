"""Which tests run when.

- quick: no torch, no worker process; for every save. `make test-quick`.
- usual: every guard of what the product promises. `make test`.
- demonstrations: what shows rather than guards, or takes long for what it guards: that
  trainings run and their products do what they are for, benchmarks' own tests, long oracles,
  pictures that show what the prompt says, the C# client.
  `make test-full`, and CI runs them too.
- matrix: every sampler with every mode and part against diffusers' pipelines, of which the
  usual tests have one each, damaged files by the thousand, and what else takes minutes for
  what others guard in pieces. `make test-matrix`, on demand.

A new test is usual until it is named here or marked `@pytest.mark.demonstration` or, for the
matrix, `@pytest.mark.matrix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest


class Tier(Enum):
    """A choice of tests."""

    QUICK = "quick"
    USUAL = "usual"
    DEMONSTRATIONS = "demonstrations"
    MATRIX = "matrix"
    ALL = "all"


_QUICK = ("tests/contract/", "tests/domains/", "tests/server/", "tests/test_")
_NOT_QUICK = (
    # They need torch.
    "tests/domains/chain/backends/",
    "tests/domains/chain/test_safeguard.py",
    "tests/domains/inference/backends/",
    "tests/domains/device/test_faults.py",
    "tests/domains/device/test_selftest.py",
    "tests/domains/device/test_work_stream.py",
    "tests/domains/inference/test_schedule_rules.py",
    "tests/domains/memory/test_buffers.py",
    "tests/domains/memory/test_comparing.py",
    "tests/domains/model/backends/inspector/test_layout_change.py",
    "tests/domains/model/backends/inspector/test_pickles.py",
    "tests/domains/model/backends/test_checkpoint.py",
    "tests/domains/model/backends/test_component.py",
    "tests/domains/model/backends/test_image_prompt_files.py",
    "tests/domains/model/backends/test_diffusers_folder.py",
    "tests/domains/model/backends/test_families.py",
    "tests/domains/model/backends/test_layout_oracle.py",
    "tests/domains/model/backends/test_layouts.py",
    "tests/domains/model/backends/test_library_errors.py",
    "tests/domains/model/backends/test_real_shapes.py",
    "tests/domains/model/backends/test_safetensors_header.py",
    "tests/domains/model/backends/test_tables.py",
    "tests/domains/model/backends/test_weight_files.py",
    "tests/domains/model/backends/test_weights.py",
    "tests/domains/model/test_corpus_tables.py",
    # They start processes, or wait for real time.
    "tests/contract/test_sketches",
    "tests/domains/device/test_probe_processes.py",
    "tests/domains/model/test_looks.py",
    "tests/server/worker/test_inspectors.py",
    "tests/server/worker/test_picture_inspectors.py",
    "tests/server/cli/test_process.py",
    "tests/server/test_fuzz.py",
    "tests/server/test_process.py",
    "tests/server/test_serve.py",
    "tests/server/test_token_changes.py",
    "tests/server/worker/test_damaged_models.py",
    "tests/server/worker/test_engine_worker.py",
    "tests/server/worker/test_frames.py",
    "tests/server/worker/test_loop.py",
    "tests/server/worker/test_phases.py",
    "tests/server/worker/test_pool",
    "tests/server/worker/test_resumption.py",
)
_DEMONSTRATIONS = (
    "tests/accelerator/",
    "tests/attack/",
    "tests/bench/",
    "tests/e2e/test_durable_restarts.py",
    "tests/demo/",
    "tests/domains/inference/backends/test_stops.py",
    "tests/e2e/test_bringing_models.py",  # a model is fetched, changed and drawn with
    "tests/e2e/test_combinations.py",  # each is drawn three times
    "tests/e2e/test_csharp.py",  # compiles for a minute
    "tests/e2e/test_larger_and_varied.py",
    "tests/e2e/test_pausing.py",  # a worker is killed and comes back
    "tests/e2e/test_restarts.py",  # servers are killed and started again
    "tests/e2e/test_placement.py",  # three workers draw on one processor
    "tests/e2e/test_prompts.py",
    "tests/e2e/test_telling.py",  # a server is started again
    "tests/e2e/test_workflow_commands.py",  # what the page about workflows shows is run
    "tests/e2e/test_workflow_restarts.py",  # servers are killed and started again
    "tests/e2e/test_yielding.py",  # thirty steps thrice; tests/domains/session/ guards turns
    "tests/test_tiers.py",  # collects all that is quick
    "tests/tools/test_first_run.py",
)
# These take minutes together, and what each shows is guarded by others in smaller pieces.
_ON_DEMAND = (
    "tests/attack/test_odd_generations.py",  # tests/e2e/test_odd_generations.py refuses as many
    "tests/e2e/test_machines.py",  # a cluster of several nodes; its pieces are tested alone
    "tests/bench/test_overhead.py",  # runs every benchmark of overhead once
    "tests/e2e/test_thirty_steps.py",  # fourteen pictures of thirty steps
)
# What is marked as a demonstration in these files is a part of a grid.
_MATRICES = tuple(
    f"tests/domains/inference/backends/test_{name}.py"
    for name in (
        "config_fuzz",
        "control_nets",
        "finite_schedules",
        "image_to_image",
        "inpainting",
        "lora_kinds",
        "noise_source",
        "oracle",
        "pausing",
        "refiner",
        "sampling",
        "schedulers",
        "sd2",
        "second_pass",
        "sequences",
    )
)


def belongs(path: str, tier: Tier, *, marked: bool = False, in_grid: bool = False) -> bool:
    """Whether a test of the file at `path` (from the root, with `/`) is of that tier.

    Args:
        path: Where the test is.
        tier: The choice.
        marked: Whether the test itself is marked as a demonstration.
        in_grid: Whether it is marked as a part of the matrix.
    """
    grid = in_grid or path in _ON_DEMAND or (marked and path.startswith(_MATRICES))
    demonstration = not grid and (marked or path.startswith(_DEMONSTRATIONS))
    match tier:
        case Tier.ALL:
            return True
        case Tier.DEMONSTRATIONS:
            return demonstration
        case Tier.USUAL:
            return not demonstration and not grid
        case Tier.MATRIX:
            return grid
        case Tier.QUICK:
            quick = path.startswith(_QUICK) and not path.startswith(_NOT_QUICK)
            return quick and not demonstration and not grid


def marks(file: Path) -> bool:
    """Whether a file says of any test of its own which tier it is of."""
    text = file.read_text("utf-8")
    return "pytest.mark.demonstration" in text or "pytest.mark.matrix" in text


def needs_torch(folder: str) -> bool:
    """Whether what a folder's tests share imports torch; its path ends with `/`."""
    return folder == "tests/domains/inference/backends/"


def select(config: pytest.Config, items: list[pytest.Item], files: Mapping[Path, str]) -> None:
    """Deselect what is not of the tier that was asked for.

    Args:
        config: Says which.
        items: All tests; those that are not chosen are taken out.
        files: Where each test's file is, from the root, with `/`.
    """
    tier = Tier(config.getoption("tier"))
    chosen, others = [], []
    for item in items:
        path = files[item.path]
        marked, in_grid = (
            item.get_closest_marker(name) is not None for name in ("demonstration", "matrix")
        )
        (chosen if belongs(path, tier, marked=marked, in_grid=in_grid) else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
