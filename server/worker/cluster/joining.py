"""Joining a Ray cluster: the one module that speaks to Ray's own functions."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from server.worker.child.environment import settle_for_ray

_NAMESPACE = "deviceops"
_REACH_SECONDS = 5.0
_POLL_SECONDS = 0.5
_LONGEST_NAME = 63
_UNFIT = re.compile(r"[^a-z0-9_-]+")

Answer = TypeVar("Answer")


class ClusterUnreachable(Exception):
    """The cluster cannot be used from here; the text says why, for people."""


class NodeGone(Exception):
    """A node, or what ran for us on it, is not there any more; the text is for people."""


class FailedThere(Exception):
    """What ran for us on a node raised an error there, which is the cause of this one."""


@dataclass(frozen=True)
class Node:
    """Another machine of the cluster: what we call it, and its number in this cluster."""

    name: str
    node_id: str


@contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster whose head listens at `address`, for as long as the context lasts.

    Raises:
        ClusterUnreachable: Ray is not installed, nobody listens there, or no node of that
            cluster runs on this machine.
    """
    _reach(address)
    settle_for_ray()
    try:
        import ray
    except ImportError as error:
        raise ClusterUnreachable(
            f"Ray cannot be imported ({error.name or error}); install the extra [ray]."
        ) from error
    try:
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        raise ClusterUnreachable(
            f"The Ray cluster at {address} cannot be joined; this machine must be a node of it"
            f" (ray start --address={address}). {type(error).__name__}"
        ) from error
    try:
        yield Cluster()
    finally:
        ray.shutdown()


class Cluster:
    """A cluster that this process has joined."""

    def nodes(self) -> list[Node]:
        """The machines beside this one that are there, each name once."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        entries: Any = ray.nodes  # it has no types
        found: dict[str, Node] = {}
        for entry in sorted(entries(), key=lambda entry: str(entry["NodeID"])):
            if entry["Alive"] and entry["NodeID"] != here:
                name = name_of(entry["NodeName"])
                found.setdefault(name, Node(name, entry["NodeID"]))
        return [found[name] for name in sorted(found)]

    def on_node(self, node: Node, function: Callable[[], Answer]) -> Any:
        """Begin to compute `function` on that node; the answer is for `answer_of`."""
        import ray

        remote: Any = ray.remote(function)
        return remote.options(num_cpus=0, max_retries=0, **_only_on(node)).remote()

    def actor(self, name: str, node_name: str, kind: type, patience: float) -> Actor:
        """An actor of that node, the only one of its name in the whole cluster.

        Waits `patience` seconds for one of the same name to be gone.

        Raises:
            NodeGone: There is no such node.
            ClusterUnreachable: Another server has one of that name.
        """
        import ray
        from ray.exceptions import ActorAlreadyExistsError

        made: Any = ray.remote(kind)
        until = time.monotonic() + patience
        while True:
            node = next((each for each in self.nodes() if each.name == node_name), None)
            if node is None:
                raise NodeGone(f"There is no node {node_name} in the cluster.")
            try:
                handle = made.options(
                    name=name, num_cpus=0, max_concurrency=4, **_only_on(node)
                ).remote()
                return Actor(handle)
            except ActorAlreadyExistsError:
                if time.monotonic() >= until:
                    raise ClusterUnreachable(
                        f"Another server of the cluster has a worker on {name}."
                    ) from None
                time.sleep(_POLL_SECONDS)


class Actor:
    """An actor on another machine. Safe to call from several threads."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def call(self, method: str, *arguments: object, patience: float) -> Any:
        """What its method answers, within `patience` seconds.

        Raises:
            NodeGone: It is gone, or does not answer.
            FailedThere: It raised an error.
        """
        return answer_of(getattr(self._handle, method).remote(*arguments), patience)


def answer_of(reference: Any, patience: float) -> Any:
    """What was begun on another machine, once it is done.

    Raises:
        NodeGone: It cannot be done there any more, or takes longer than `patience` seconds.
        FailedThere: It raised an error.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference, timeout=patience)
    except RayTaskError as error:
        why = f"What ran on its node failed there ({type(error.cause).__name__})."
        raise FailedThere(why) from error.cause
    except RayError as error:
        raise NodeGone(f"Its node does not answer ({type(error).__name__}).") from error


def name_of(given: str) -> str:
    """A node's name as part of a device's id: lower case, digits, hyphens, underscores."""
    return _UNFIT.sub("-", given.lower()).strip("-_")[:_LONGEST_NAME] or "node"


def _only_on(node: Node) -> dict[str, Any]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False)}


def _reach(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as error:
        why = error.strerror or "nobody answers"
        raise ClusterUnreachable(f"No Ray cluster listens at {address}: {why}.") from error
