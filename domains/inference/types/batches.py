"""Batches of generations: many different pictures in one session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from msgspec.structs import replace

from domains.device.types import Placement
from domains.inference.types import GenerationRequest, GenerationSettings
from domains.limits import LIMITS
from domains.session.core.plan import Decided
from domains.session.types import Delivery, WorkOptions

TEMPLATE = "template"
"""Where what items have in common stands in a request."""
_SEEDS = int(LIMITS["GenerationSettings.seed"].maximum or 0) + 1


class BatchComputation(Enum):
    """How items of a batch are computed."""

    EXACT = "exact"
    THROUGHPUT = "throughput"


@dataclass(frozen=True)
class BatchItem:
    """One item as a generation of its own, with the template's settings under its own.

    `origins` says where settings were set that are not the template's, by their fields' names.
    """

    item_id: str
    request: GenerationRequest
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, path: str) -> str:
        """Where in the batch's request stands what the item's own has at `path`."""
        head, dot, rest = path.partition(".")
        if head != "settings":
            return path
        name = rest.partition(".")[0].partition("[")[0]
        return f"{self.origins.get(name, TEMPLATE)}{dot}{rest}"


@dataclass(frozen=True)
class GenerationBatchRequest:
    """One call of GenerateBatch. `digest` stands for the whole request, for idempotency;
    `field` is the one that its items come from, of which there may be none; `template` is what
    they have in common."""

    template: BatchItem
    items: tuple[BatchItem, ...]
    field: str
    options: WorkOptions
    placement: Placement
    digest: bytes
    delivery: Delivery
    computation: BatchComputation = BatchComputation.EXACT


@dataclass(frozen=True)
class GenerationBatchReport:
    """How many items of a batch came to pictures, and how many failed."""

    completed: int
    failed: int


def image_count(settings: GenerationSettings) -> int:
    """How many pictures unresolved settings ask for."""
    return len(settings.seeds) or settings.image_count or 1


def as_decided(request: GenerationRequest, decided: Decided) -> GenerationRequest:
    """The request whose pictures have the seeds, and where it names none the model, that were
    decided before."""
    settings = replace(
        request.settings,
        seed=None,
        seeds=decided.seeds,
        model_id=request.settings.model_id or decided.model_id,
    )
    return dataclasses.replace(request, settings=settings)


def batch_as_decided(
    request: GenerationBatchRequest, decided: Decided
) -> GenerationBatchRequest:
    """The same of a batch, whose items' pictures have their seeds in order. Its main model is
    its first item's: where that names none, it is what the server's default was."""
    left = iter(decided.seeds)
    default = "" if request.items[0].request.settings.model_id else decided.model_id
    items = tuple(
        dataclasses.replace(
            item,
            request=as_decided(
                item.request,
                Decided(tuple(islice(left, image_count(item.request.settings))), default),
            ),
        )
        for item in request.items
    )
    return dataclasses.replace(request, items=items)


def run_of(settings: GenerationSettings, run: int) -> GenerationSettings:
    """The settings of one of several runs, from 0: its seeds count on from those of the one
    before. Seeds that are left open stay so; those out of range as well, which are refused."""
    past = run * image_count(settings)
    return replace(
        settings,
        seed=None if settings.seed is None else _later(settings.seed, past),
        seeds=tuple(_later(seed, past) for seed in settings.seeds),
    )


def _later(seed: int, past: int) -> int:
    return (seed + past) % _SEEDS if 0 <= seed < _SEEDS else seed
