"""A Ray cluster on this machine: one node as the front's, and others that can be killed.

    python -m tests.fakes.ray_cluster NODE...

Prints the address once all are there. Each line on standard input is the name of a node that
is killed with everything on it, as if its machine lost power; at its end the rest goes too.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import psutil

_SMALL: dict[str, Any] = {
    "num_cpus": 0,
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
}


def main(names: list[str]) -> None:
    """Start the cluster and keep it until standard input ends."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # noqa: TID251  Ray's own settings
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # noqa: TID251  loopback it is
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={**_SMALL, "node_name": "here"})
    try:
        nodes = {name: cluster.add_node(node_name=name, **_SMALL) for name in names}
        print(cluster.address, flush=True)
        for line in sys.stdin:
            _kill(nodes.pop(line.strip()))
            print("killed", flush=True)
    finally:
        cluster.shutdown()


def _kill(node: Any) -> None:
    """End the node's raylet and what it started, at once."""
    [raylet] = node.all_processes["raylet"]
    family = [psutil.Process(raylet.process.pid)]
    family += family[0].children(recursive=True)
    for each in family:
        each.suspend()
    for each in family:
        each.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
