"""One session that a hundred watch: what they see how late, and what it costs the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Arm, Sample, interleave, median, percentile, ratio_of_medians
from bench.outcome import Goal
from bench.sections import Section
from bench.served import Usage, tiny, tiny_server, usage_of, warmed
from deviceops.v1 import inference_pb2, processing_pb2, session_pb2
from tests.running import Client, RunningServer

NAME = "watchers"
_IMAGES, _STEPS = 2, 150
_EDGE = 256
_MOST_LAG = 1.0
"""Seconds after which the slowest watcher has what happened, 99 times of 100."""


@dataclass(frozen=True)
class _Seen:
    """What one watcher saw: how many events, and how many seconds late each."""

    lags: Sequence[float]


def _asked(number: int) -> inference_pb2.GenerateRequest:
    request = tiny(number, edge=_EDGE, steps=_STEPS)
    request.settings.image_count = _IMAGES
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return request


async def _watch(client: Client, session_id: str) -> _Seen:
    request = processing_pb2.WatchSessionRequest(session_id=session_id)
    request.delivery.omit_image_data = True
    lags = []
    async for answer in client.processing.WatchSession(request, metadata=client.metadata):
        lags.append(time.time() - answer.event.event_time.ToNanoseconds() / 1e9)
    return _Seen(lags)


class _Runs:
    """Sessions of the same work, with or without watchers."""

    def __init__(self, client: Client, running: RunningServer) -> None:
        self._client, self._running = client, running
        self._number = 0
        self.seen: list[list[_Seen]] = []
        self.usages: dict[int, list[Usage]] = {}

    async def run(self, watchers: int) -> Sample:
        """How long the work took; nobody follows it but they."""
        self._number += 1
        client = self._client
        before = usage_of(self._running.process.pid)
        call = client.generate(_asked(self._number))
        session_id = (await call.read()).event.session_id
        watching = [asyncio.create_task(_watch(client, session_id)) for _ in range(watchers)]
        call.cancel()
        seen = list(await asyncio.gather(*watching))
        session = await self._ended(session_id)
        after = usage_of(self._running.process.pid)
        self.usages.setdefault(watchers, []).append(after.since(before))
        if seen:
            self.seen.append(seen)
        assert session.state == session_pb2.SESSION_STATE_COMPLETED, session
        took = session.end_time.ToNanoseconds() - session.start_time.ToNanoseconds()
        return Sample(took / 1e9)

    async def _ended(self, session_id: str) -> session_pb2.Session:
        request = processing_pb2.GetSessionRequest(session_id=session_id)
        while True:
            answer = await self._client.processing.GetSession(
                request, metadata=self._client.metadata
            )
            if answer.session.HasField("end_time"):
                return answer.session
            await asyncio.sleep(0.25)


async def _measure(watchers: int, rounds: int) -> Section:
    with tiny_server() as running:
        async with running.client() as client:
            await warmed(client)
            runs = _Runs(client, running)
            samples = await interleave(
                [
                    Arm("watched", lambda _: runs.run(watchers)),
                    Arm("alone", lambda _: runs.run(0)),
                ],
                rounds=rounds,
                warm_ups=0,
            )
    ours = [sample.seconds for sample in samples["watched"]]
    theirs = [sample.seconds for sample in samples["alone"]]
    ratio = ratio_of_medians(ours, theirs)
    sent = [sum(len(each.lags) for each in run) for run in runs.seen]
    entries = {len(each.lags) for run in runs.seen for each in run}
    slowest = [max(run, key=lambda each: max(each.lags)).lags for run in runs.seen]
    late = [percentile(lags, 99) for lags in slowest]
    per_second = [count / seconds for count, seconds in zip(sent, ours, strict=True)]
    rows = [
        (
            name,
            f"{median(seconds):.2f}",
            f"{median([each.front_seconds for each in runs.usages[count]]):.2f}",
            f"{median([each.workers_seconds for each in runs.usages[count]]):.2f}",
        )
        for name, count, seconds in (
            (f"{watchers} watchers", watchers, ours),
            ("none", 0, theirs),
        )
    ]
    return Section(
        NAME,
        f"A session of {_IMAGES * _STEPS} steps that {watchers} watch, beside one that nobody"
        f" watches, {rounds} rounds in turn; the watchers are on the same machine.",
        [("watched by", "seconds", "of the front's processor", "of the worker's"), *rows],
        [
            Goal(
                "seconds late, 99 of 100 events, slowest watcher", _MOST_LAG, median(late), "s"
            ),
        ],
        [
            f"events sent: {median(per_second):.0f} a second, {min(entries)} to {max(entries)}"
            " to each watcher",
            f"latest event of the slowest watcher: {max(map(max, slowest)):.3f} s late",
            f"the work takes {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times as"
            " long",
        ],
    )


def measure(watchers: int, rounds: int) -> Section:
    """Have so many watch, so often."""
    return asyncio.run(_measure(watchers, rounds))
