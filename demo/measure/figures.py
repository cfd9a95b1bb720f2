"""What a measure found, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Figure:
    """One number; `goal` in words, or empty where the number is only told; `met` then None."""

    name: str
    value: float
    goal: str = ""
    met: bool | None = None


def write(measure: str, figures: Sequence[Figure], folder: Path = RESULTS) -> Path:
    """Write a measure's figures and the command that gives them to `<measure>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measure}.json"
    told = {
        "command": f"python -m demo.measure {measure}",
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return path


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    words = {True: "yes", False: "NO", None: ""}
    rows = [
        f"| {figure.name} | {figure.value:.4g} | {figure.goal} | {words[figure.met]} |"
        for figure in figures
    ]
    return "\n".join(["| figure | value | goal | met |", "|---|---|---|---|", *rows])
