"""`python -m server.worker.cluster.look ADDRESS`: the devices of a cluster's other machines.

Each machine looks by itself, as the front looks at its own. The answer is one line of JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from domains.codec import decode_json, encode_json
from domains.device.backends.answers import cleaned, one_line
from domains.device.backends.probe_processes import ProbeProcesses
from server.worker.cluster.joining import (
    ClusterUnreachable,
    FailedThere,
    Node,
    NodeGone,
    answer_of,
    joined,
)
from server.worker.link.machines import Machine, Machines

# Of all together; the front waits for this process somewhat longer.
_MACHINES_SECONDS = 90.0


def adapters_here() -> bytes:
    """The adapters of the machine that this runs on, as a `Machine` without its name."""
    found = asyncio.run(ProbeProcesses().discover())
    return encode_json(Machine("here", tuple(map(cleaned, found.adapters))))


def main(address: str) -> None:
    """Print what was found."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # libraries that print must not print into the answer
        answers.write(encode_json(_look(address)) + b"\n")


def _look(address: str) -> Machines:
    try:
        with joined(address) as cluster:
            begun = [(node, cluster.on_node(node, adapters_here)) for node in cluster.nodes()]
            latest = time.monotonic() + _MACHINES_SECONDS
            return Machines(tuple(_machine(*each, latest) for each in begun))
    except ClusterUnreachable as why:
        return Machines(unseen=one_line(str(why)))


def _machine(node: Node, reference: object, latest: float) -> Machine:
    """What it answers until `latest`: all look at the same time."""
    patience = max(latest - time.monotonic(), 0.0)
    try:
        answer = decode_json(Machine, answer_of(reference, patience))
    except (NodeGone, FailedThere, ValueError) as error:
        return Machine(node.name, (), one_line(f"node {node.name}: {error}"))
    return Machine(node.name, answer.adapters)


if __name__ == "__main__":
    main(*sys.argv[1:])
