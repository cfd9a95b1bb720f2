"""Records in memory."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from domains.errors import Reason, ResourceExhausted


def _done() -> Future[None]:
    made: Future[None] = Future()
    made.set_result(None)
    return made


@dataclass
class Memory:
    """Records on a disk that may be full."""

    kept: dict[str, bytes] = field(default_factory=dict)
    full: bool = False

    def found(self) -> Mapping[str, bytes]:
        return dict(self.kept)

    async def accept(self, key: str, body: bytes) -> None:
        if self.full:
            raise ResourceExhausted("The disk is full.", reason=Reason.DISK_FULL)
        self.kept[key] = body

    def put(self, key: str, body: bytes) -> Future[None]:
        self.kept[key] = body
        return _done()

    def remove(self, key: str) -> Future[None]:
        del self.kept[key]
        return _done()
