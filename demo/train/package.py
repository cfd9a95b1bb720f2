"""Put the family together: `python -m demo.train.package --trained DIR --models demo/models`.

Looks for what the trainings wrote, anywhere below DIR, and writes the files that are
committed, each in the layout that people know it in. What was not trained stays as it is.
Prints every artefact's size and refuses when all of them together exceed 100 MB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.train import artefacts
from demo.train.artefacts import BASE_NAME, Places

BUDGET = 100_000_000
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Artefact:
    """One artefact: the file that tells its training is there, and how it is assembled."""

    mark: str
    assemble: Callable[[Places], Path]


ARTEFACTS = (
    Artefact("line-art.safetensors", artefacts.style_lora("line-art")),
    Artefact("pixel-art.safetensors", artefacts.style_lora("pixel-art")),
    Artefact("emoji-canny.safetensors", artefacts.control_net),
    Artefact("emoji-refiner.safetensors", artefacts.refiner_model),
    Artefact("comic.json", artefacts.comic_checkpoint),
    Artefact("vae-decoder.safetensors", artefacts.vae_file),
    Artefact("emoji-sd1.safetensors", artefacts.sd1_model),
    Artefact("compact-4x.safetensors", artefacts.upscaler(4)),
    Artefact("compact-2x.safetensors", artefacts.upscaler(2)),
    Artefact("emoji-embedding.safetensors", artefacts.embedding),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Assemble what was trained; returns the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trained", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR")
    parser.add_argument("--configs", type=Path, default=CONFIGS, metavar="DIR")
    given = parser.parse_args(argv)
    for path in (given.trained, given.models / BASE_NAME):
        if not path.is_dir():
            parser.error(f"{path} is not a folder")
    try:
        written = package(given.trained, given.models, given.configs)
    except ValueError as error:
        parser.error(str(error))
    for path in written:
        print(f"wrote {path}")
    sizes = sizes_of(given.models)
    print(table(sizes))
    if sum(sizes.values()) > BUDGET:
        print(f"more than the {BUDGET:,} bytes that the family may have", file=sys.stderr)
        return 1
    return 0


def package(trained: Path, models: Path, configs: Path) -> list[Path]:
    """Assemble every artefact whose training is found below `trained`.

    Returns:
        What was written.

    Raises:
        ValueError: A training is there twice, none is there, or one wrote something else than
            its script does.
    """
    written = []
    for artefact in ARTEFACTS:
        found = sorted(trained.rglob(artefact.mark))
        if len(found) > 1:
            raise ValueError(f"{artefact.mark} is there twice: {found[0]} and {found[1]}")
        if found:
            written.append(artefact.assemble(Places(found[0].parent, models, configs)))
    if not written:
        raise ValueError(f"nothing that a training writes is below {trained}")
    return written


def sizes_of(models: Path) -> dict[str, int]:
    """Bytes of each artefact in `models` beside the base model, folders summed."""
    return {
        entry.name: sum(file.stat().st_size for file in _files(entry))
        for entry in sorted(models.iterdir())
        if entry.name != BASE_NAME
    }


def table(sizes: dict[str, int]) -> str:
    """The sizes as text, the total in the last line."""
    rows = {**sizes, "all": sum(sizes.values())}
    return "\n".join(f"{name:32} {size:>12,} bytes" for name, size in rows.items())


def _files(entry: Path) -> Iterable[Path]:
    if entry.is_file():
        return [entry]
    return (path for path in entry.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
