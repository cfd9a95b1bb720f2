"""What a frame of the worker link costs, against a denoising step's time.

python -m bench.link
"""

from __future__ import annotations

import timeit
from datetime import UTC, datetime

from domains.codec import decode, encode
from domains.device.types import DeviceFigures, LoadedComponent
from domains.session.types import Preview, StepFinished
from domains.values import ByteFigure, TensorDataType
from server.worker.link import frames

ROUNDS = 20_000


def samples() -> dict[str, frames.FromWorker]:
    """A step, a preview of 20 kB, and a beat about a model of five networks."""
    figure = ByteFigure.measured(1 << 30, "torch.cuda.memory_stats()")
    now = datetime.now(UTC)
    part = LoadedComponent("emoji-xl", "unet", figure, TensorDataType.FLOAT16, now)
    figures = DeviceFigures(*(figure,) * 7, leased_bytes=0, models=(part,) * 5, read_time=now)
    return {
        "step": frames.Progress("session", 1, StepFinished(0, 3, 25)),
        "preview": frames.Progress("session", 1, Preview(0, 3, 256, 256, bytes(20_000))),
        "beat": frames.Beat(1 << 30, figures),
    }


def main() -> None:
    """Print microseconds for one way through the link's codec."""
    for name, frame in samples().items():
        data = encode(frame)
        assert decode(frames.FromWorker, data) == frame

        def there_and_back(frame: frames.FromWorker = frame) -> None:
            frames.decode_from_worker(encode(frame))

        seconds = min(timeit.repeat(there_and_back, number=ROUNDS, repeat=5)) / ROUNDS
        print(f"{name:8} {len(data):6} bytes {seconds * 1e6:7.1f} us")


if __name__ == "__main__":
    main()
