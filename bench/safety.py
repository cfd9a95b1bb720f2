"""What safety costs beside drawing, as Markdown.

    python -m bench.safety [--rounds 10] [--steps 20] [--out FILE.md]

Needs the extra [safety] and the demo model alone. Pictures are drawn in turns with and without
a default policy that judges every result and lets it pass; then each classifier is timed alone,
and the thousand patterns of a policy on the longest prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from bench.client import draw
from bench.machine import describe_machine
from bench.measure import Arm, Ratio, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.work import work_of_round
from deviceops.v1 import finishing_pb2, safety_pb2
from domains.chain.backends.classifiers import Classifiers, installed
from domains.safety.words import holds_any
from tests.running import Client, start_server

_WARM_UPS = 2
_EDGES = (256, 1024, 2048)
_PATTERNS = tuple(f"*pattern{k}*" for k in range(1_000))
_PROMPT = "a red apple on a blue background " * 303  # 9,999 characters


async def measure(rounds: int, steps: int) -> tuple[Ratio, float, float]:
    """The ratio of a judged picture's time to a plain one's, and the medians of both."""
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:

            async def plain(number: int) -> Sample:
                return await draw(client, work_of_round(number, steps))

            async def judged(number: int) -> Sample:
                await _create(client)
                try:
                    return await draw(client, work_of_round(number, steps))
                finally:
                    await client.postprocessing.DeletePolicy(
                        safety_pb2.DeletePolicyRequest(policy_id="bench"),
                        metadata=client.metadata,
                    )

            arms = [Arm("judged", judged), Arm("plain", plain)]
            taken = await interleave(arms, rounds=rounds, warm_ups=_WARM_UPS)
    ours, theirs = seconds_of(taken["judged"]), seconds_of(taken["plain"])
    return ratio_of_medians(ours, theirs), median(ours), median(theirs)


async def _create(client: Client) -> None:
    policy = safety_pb2.SafetyPolicy(policy_id="bench", is_default=True)
    policy.rules.add(
        category="nsfw",
        threshold=1.0,
        action=finishing_pb2.SAFETY_ACTION_BLOCK,
        subject=finishing_pb2.SAFETY_SUBJECT_RESULT,
    )
    await client.postprocessing.CreatePolicy(
        safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
    )


def classifier_seconds(rounds: int) -> dict[tuple[str, int], float]:
    """The median of scoring a picture, by classifier and edge in pixels; weights are read
    before."""
    classifiers, found = Classifiers(), {}
    for edge in _EDGES:
        pixels = np.asarray(Image.effect_mandelbrot((edge, edge), (-3, -2.5, 2, 2.5), 100))
        colour = np.dstack([pixels] * 3)
        assert not classifiers.findings(colour).failed
        for name in installed():
            score = partial(classifiers.findings, colour, [name])
            found[name, edge] = median([_seconds(score) for _ in range(rounds)])
    return found


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main(arguments: list[str]) -> int:
    """Measure, and write what came of it."""
    parser = argparse.ArgumentParser(prog="bench.safety", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    ratio, judged, plain = asyncio.run(measure(options.rounds, options.steps))
    scoring = classifier_seconds(options.rounds)
    words = median(
        [_seconds(lambda: holds_any(_PROMPT, _PATTERNS)) for _ in range(options.rounds)]
    )
    machine = describe_machine()
    out = io.StringIO()
    print(
        "# What safety costs",
        "",
        "Written by `python -m bench.safety`.",
        "",
        f"{machine.processor}, {machine.cores} cores; {', '.join(installed().values())}, "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        + f"; {options.rounds} rounds, 256x256, {options.steps} steps;"
        f" load average {machine.load[0]:.1f} at the end.",
        "",
        "| | ms | of drawing one picture |",
        "|---|---|---|",
        f"| A picture through the server | {1e3 * plain:.1f} | 1 |",
        f"| The same, judged by a default policy | {1e3 * judged:.1f} | {ratio.value:.3f}"
        f" ({ratio.low:.3f} to {ratio.high:.3f}) |",
        *(
            f"| Scoring {edge}x{edge} by {name} alone | {1e3 * taken:.1f}"
            f" | {taken / plain:.3f} |"
            for (name, edge), taken in scoring.items()
        ),
        f"| A thousand patterns on a prompt of {len(_PROMPT)} characters | {1e3 * words:.1f}"
        f" | {words / plain:.3f} |",
        sep="\n",
        file=out,
    )
    print(out.getvalue(), end="")
    if options.out is not None:
        options.out.write_text(out.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
