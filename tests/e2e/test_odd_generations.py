"""A few generations of odd shapes over the models that every test has; the many are in
`tests/attack/test_odd_generations.py`."""

from __future__ import annotations

import pytest

from tests.e2e.odd_trials import plain_pictures, tried
from tests.odd_generations import OddGenerations
from tests.running import Client, RunningServer

ODD = OddGenerations(
    {
        "GenerationSettings.model_id": ("emoji-xl",),
        "GenerationSettings.vae_model_id": ("emoji-vae",),
        "GenerationSettings.embedding_model_ids": ("emoji-embedding",),
        "LoraWeight.model_id": ("line-art", "pixel-art"),
        "ControlNetGuidance.model_id": ("emoji-canny",),
        "Refiner.model_id": ("emoji-refiner",),
    }
)

# Quick ones: weighted prompts, another VAE, an embedding, a refiner, a second pass, seams,
# and what validation refuses and what only the work can.
NUMBERS = (6, 9)


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one: these tests leave it as it was."""
    return server


async def test_odd_generations_are_refused_by_field_or_drawn(client: Client) -> None:
    before = await plain_pictures(client)

    trials = [await tried(client, ODD.request(number)) for number in NUMBERS]

    assert any(trial.refusals for trial in trials)
    assert await plain_pictures(client) == before
