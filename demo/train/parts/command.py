"""The command line that all training scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from demo.train.parts.loop import Plan

SMOKE_STEPS = 2
SMOKE_EMOJI = 24


@dataclass(frozen=True)
class Options:
    """What the user asked for; `extra` holds a script's own options.

    `start` is a folder that an earlier run of the same script wrote. `emoji` limits how many
    emoji are read, None for all.
    """

    device: torch.device
    steps: int
    minutes: float | None
    batch: int
    out: Path
    seed: int
    smoke: bool
    start: Path | None
    emoji: int | None
    extra: argparse.Namespace

    def plan(self, learning_rate: float, *, ema: float | None = None) -> Plan:
        """How long to train, as asked; how fast is the recipe's."""
        return Plan(
            steps=self.steps,
            minutes=self.minutes,
            batch=self.batch,
            learning_rate=learning_rate,
            ema=ema,
        )


def parse(
    description: str | None,
    argv: Sequence[str] | None,
    *,
    steps: int,
    batch: int,
    smoke_batch: int = 2,
    continues: bool = False,
    extend: Callable[[argparse.ArgumentParser], object] | None = None,
) -> Options:
    """Reads the command line, seeds torch and makes `--out`.

    `steps` and `batch` are the recipe's own; a script that `continues` takes `--start`.
    `--smoke` replaces them, and the device by the CPU, unless they are given. A wrong value
    ends the program with a message, as argparse does.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for the weights"
    )
    parser.add_argument(
        "--device", type=_device, help="cuda, cuda:1 or cpu; default: cuda if there is one"
    )
    parser.add_argument("--steps", type=_positive(int), help=f"default: {steps}")
    parser.add_argument(
        "--minutes", type=_positive(float), help="end, decayed, after this long"
    )
    parser.add_argument("--batch", type=_positive(int), help=f"default: {batch}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps on the CPU")
    parser.set_defaults(start=None)
    if continues:
        parser.add_argument(
            "--start", type=_folder, metavar="DIR", help="go on from what a run wrote there"
        )
    if extend is not None:
        extend(parser)
    given = parser.parse_args(argv)
    device = given.device or torch.device(
        "cuda" if torch.cuda.is_available() and not given.smoke else "cpu"
    )
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            parser.error(f"argument --device: there is no CUDA device here for {device}")
        torch.cuda.set_device(device.index or 0)
        # The processor only launches kernels, and often for several trainings at once.
        torch.set_num_threads(2)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    return Options(
        device=device,
        steps=given.steps or (SMOKE_STEPS if given.smoke else steps),
        minutes=given.minutes,
        batch=given.batch or (smoke_batch if given.smoke else batch),
        out=given.out,
        seed=given.seed,
        smoke=given.smoke,
        start=given.start,
        emoji=SMOKE_EMOJI if given.smoke else None,
        extra=given,
    )


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"must name a device, not {text}") from error
    if device.type not in ("cuda", "cpu"):
        raise argparse.ArgumentTypeError(f"must be cuda or cpu, not {text}")
    return device


def _positive(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
        return value

    return read
