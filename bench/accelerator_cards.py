"""Several cards of one server with one queue: how much more they draw than one, and how long a
picture takes while they are loaded to 87 percent. As JSON.

`python -m bench.accelerator_cards FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet. Server and client are on one machine; requests leave the
device open among all cards, those of the baseline name the first.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bench.accelerator_served import _SIZES, _model, _request, begun
from deviceops.v1 import device_info_pb2, inference_pb2
from domains.inference.types import PrecisionMode
from tests.drawings import devices_ready
from tests.running import Client, RunningServer, start_server

_LOAD = 0.87
_PICTURES, _ARRIVALS, _IDLE = 10, 24, 5
_WAIT_SECONDS = 300


class _Bench:
    """What asks for pictures."""

    def __init__(self, client: Client, model_id: str, steps: int, cards: list[str]) -> None:
        self._client, self._cards = client, cards
        self._model_id, self._steps = model_id, steps
        self.places: Counter[str] = Counter()

    def _asked(self, card: str | None, seed: int) -> inference_pb2.GenerateRequest:
        asked = _request(self._model_id, _SIZES[0], self._steps, PrecisionMode.EXACT)
        asked.settings.seed = seed
        asked.options.queue_timeout.FromSeconds(_WAIT_SECONDS)
        if card is None:
            choice = device_info_pb2.DeviceChoice(kinds=[device_info_pb2.DEVICE_KIND_CUDA])
            asked.placement.any.CopyFrom(choice)
        else:
            asked.placement.device_id = card
        return asked

    async def picture(self, card: str | None, seed: int = 7) -> float:
        """Seconds from the request to the last byte."""
        began = time.perf_counter()
        events, _ = await self._client.draw(self._asked(card, seed))
        self.places[events[-1].completed.placement.device_id] += 1
        return time.perf_counter() - began

    async def rate(self, card: str | None, cards: int) -> float:
        """Pictures a second while the queue is never empty."""
        began = time.perf_counter()
        asked = (self.picture(card, seed) for seed in range(_PICTURES * cards))
        await asyncio.gather(*asked)
        return _PICTURES * cards / (time.perf_counter() - began)

    async def loaded(self, rate: float) -> list[float]:
        """Seconds of pictures that are asked for at random moments, so many a second."""
        moments, asked = random.Random(1), []
        for seed in range(_ARRIVALS * len(self._cards)):
            asked.append(asyncio.create_task(self.picture(None, seed)))
            await asyncio.sleep(moments.expovariate(rate))
        return list(await asyncio.gather(*asked))


async def _measured(server: RunningServer, steps: int, cards: list[str]) -> dict[str, Any]:
    async with server.client() as client:
        await devices_ready(client, *cards)
        bench = _Bench(client, await _model(client), steps, cards)
        for card in cards:  # the model is loaded, the steps are recorded
            for _ in range(3):
                await bench.picture(card)
        idle = [await bench.picture(None) for _ in range(_IDLE)]
        bench.places.clear()
        one = await bench.rate(cards[0], 1)
        bench.places.clear()
        together = await bench.rate(None, len(cards))
        shares = dict(bench.places)
        seconds = sorted(await bench.loaded(_LOAD * together))
        p50, p99 = statistics.median(seconds), seconds[int(0.99 * len(seconds))]
        usual = statistics.median(idle)
        return {
            "idle_s": usual,
            "one_card_per_s": one,
            "all_cards_per_s": together,
            "ratio": together / one,
            "shares": shares,
            "arrivals": len(seconds),
            "p50_s": p50,
            "p99_s": p99,
            "p50_to_idle": p50 / usual,
            "p99_to_idle": p99 / usual,
        }


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    given, found, flags = begun("accelerator_cards", __doc__, arguments)
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    with tempfile.TemporaryDirectory() as data, start_server(Path(data), *flags) as server:
        found |= asyncio.run(_measured(server, given.steps, cards))
    print(json.dumps({"cards": len(cards)} | found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
