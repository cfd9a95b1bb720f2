"""What looking at the machines of a cluster comes to, as one line of JSON."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import Name, Text, Value
from domains.device.types import Adapter


class Machine(Value, frozen=True):
    """One machine: its node's name and its adapters; or why it could not be looked at."""

    node: Name
    adapters: Annotated[tuple[Adapter, ...], Meta(max_length=64)] = ()
    unseen: Text = ""


class Machines(Value, frozen=True):
    """All machines beside the front's own; or why the cluster could not be looked at."""

    machines: Annotated[tuple[Machine, ...], Meta(max_length=1_000)] = ()
    unseen: Text = ""
