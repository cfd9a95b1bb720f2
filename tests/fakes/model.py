"""Stand-ins for the ports of the model domain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from domains.device.core.default import DefaultChoice
from domains.device.core.facts import TransientFacts
from domains.device.ports import FactsStore
from domains.errors import Reason
from domains.model.core import ModelCatalogue
from domains.model.core.changes import ModelChanges
from domains.model.core.contents import CatalogueContents
from domains.model.ports import ModelScanner
from domains.model.types import Architecture, Model, ModelFormat, ModelType, Problem
from domains.model.views import Scan
from domains.values import ModelPlace

START = datetime(2026, 1, 1, tzinfo=UTC)
PICKLED = Problem(Reason.MODEL_UNSAFE_PICKLE, "It is a pickle.", {"component": "all"})


def model(model_id: str, *, days: int = 0, **values: Any) -> Model:
    """A usable SDXL checkpoint, changed `days` after the start, unless `values` differ."""
    defaults: dict[str, Any] = {
        "name": model_id,
        "type": ModelType.CHECKPOINT,
        "architecture": Architecture.SDXL,
        "format": ModelFormat.DIFFUSERS_FOLDER,
        "place": ModelPlace.of(Path("/nowhere") / model_id),
        "size_bytes": 100,
        "modified_at": START + timedelta(days=days),
    }
    return Model(model_id, **(defaults | values))


def contents_of(
    scanner: ModelScanner,
    *,
    clock: Callable[[], datetime],
    default: str = "",
    facts: FactsStore | None = None,
    sha256_of: Callable[[Model], str] = lambda model: "",
) -> CatalogueContents:
    """What a scanner finds, with changes of its own."""
    choice = DefaultChoice(facts or TransientFacts(), "model.default", default)
    return CatalogueContents(scanner, ModelChanges(now=clock), choice, sha256_of=sha256_of)


def catalogue_of(
    scanner: ModelScanner, *, clock: Callable[[], datetime], default: str = ""
) -> ModelCatalogue:
    """A catalogue of what a scanner finds."""
    return ModelCatalogue(contents_of(scanner, clock=clock, default=default), clock=clock)


class FakeScanner:
    """Finds what it is told to. A held one waits, in its thread, for `release`."""

    def __init__(self, *models: Model, problems: tuple[str, ...] = ()) -> None:
        self.models = list(models)
        self.problems = problems
        self.scans = 0
        self.release = threading.Event()
        self.release.set()
        self.started = threading.Event()
        self.threads: set[int] = set()

    def again(self, model: Model) -> Model | None:
        return next((one for one in self.models if one.model_id == model.model_id), None)

    def scan(self, *, full: bool = False, quiet: float = 0.0) -> Scan:
        self.scans += 1
        self.threads.add(threading.get_ident())
        models = tuple(self.models)
        self.started.set()
        assert self.release.wait(30)
        return Scan(models, self.problems)
