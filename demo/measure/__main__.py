"""Measure the committed artefacts: `python -m demo.measure [NAME ...]`.

Every measure draws pictures with diffusers on the CPU, prints its figures as a table, writes
them to demo/results/<name>.json and shows what it drew in demo/sheets/<name>.webp. Ends with
status 1 when a goal is not met.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence

from demo.measure.figures import table, write

# Each is a module beside this one with `measure() -> list[Figure]`.
MEASURES = (
    "lora",
    "controlnet",
    "refiner",
    "comic",
    "vae",
    "sd1",
    "upscaler",
    "embedding",
    "inpainting",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measures asked for, or all; returns the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASURES))
    names = parser.parse_args(argv).names
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    missed = 0
    for name in names or MEASURES:
        started = time.monotonic()
        figures = importlib.import_module(f"demo.measure.{name}").measure()
        write(name, figures)
        print(
            f"## {name} ({time.monotonic() - started:.0f} s)\n\n{table(figures)}\n", flush=True
        )
        missed += sum(figure.met is False for figure in figures)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
