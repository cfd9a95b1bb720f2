"""Options about the sampler, which `generate` has."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.choices import SPACINGS

Scheduler = Annotated[str | None, typer.Option(metavar="NAME", help="The sampler.")]
Spacing = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Of noise levels: {', '.join(SPACINGS)}."),
]
TimestepSpacing = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="leading, trailing (for turbo and other models of few steps) or linspace.",
    ),
]
ZeroSnr = Annotated[
    bool | None,
    typer.Option(help="Let the schedule end in pure noise; as the model says by default."),
]
Algorithm = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of DPM++: dpmsolver++, sde-dpmsolver++, dpmsolver or sde-dpmsolver.",
    ),
]
Order = Annotated[
    int | None, typer.Option(metavar="N", help="Order of a multistep sampler, 1 to 3 (LMS 4).")
]
Churn = Annotated[
    float | None, typer.Option(metavar="X", help="Noise that Euler puts in while stepping.")
]
Eta = Annotated[
    float | None,
    typer.Option(metavar="X", help="Share of fresh noise: DDIM, ancestral samplers, TCD."),
]
