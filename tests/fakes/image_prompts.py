"""What holds IP-Adapters against models, without files."""

from __future__ import annotations

from dataclasses import dataclass, field

from domains.errors import DomainError
from domains.model.types import Model


@dataclass
class FakeImagePromptFits:
    """Says that adapters fit, and every encoder reads for each of them, unless told otherwise;
    implements `ImagePromptFits`."""

    failure: DomainError | None = None
    unreadable: dict[str, DomainError] = field(default_factory=dict)
    """Encoders of which it cannot be said, by id."""
    others: set[str] = field(default_factory=set)
    """Ids of encoders of another width."""
    checked: list[tuple[str, str]] = field(default_factory=list)

    def check(self, adapter: Model, model: Model) -> None:
        self.checked.append((adapter.model_id, model.model_id))
        if self.failure is not None:
            raise self.failure

    def reads(self, adapter: Model, encoder: Model) -> bool:
        if encoder.model_id in self.unreadable:
            raise self.unreadable[encoder.model_id]
        return encoder.model_id not in self.others
