"""Whether a model is the same on another machine as here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from server.worker.cluster.cargo import ModelElsewhere
from server.worker.cluster.contents import State, sha256_of
from server.worker.cluster.joining import Actor

_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 60.0


class SameModels:
    """Compares the files of models, each once for as long as nobody changes it here or there.

    Both machines hash at the same time, which takes as long as reading the files does.

    Args:
        actor: On the other machine.
        node: What that is called.
    """

    def __init__(self, actor: Actor, node: str) -> None:
        self._actor, self._node = actor, node
        self._same: dict[str, tuple[State, State]] = {}

    def check(self, files: Mapping[str, State], go_on: Callable[[], None]) -> None:
        """Return once all are known to be the same.

        Args:
            files: How each is here, by its path.
            go_on: Called every now and then while that takes time.

        Raises:
            ModelElsewhere: One is not there, or has another size or content there.
            NodeGone: The node is.
        """
        there = self._call("states", list(files))
        now = dict(zip(files, zip(files.values(), there, strict=True), strict=True))
        for path, (ours, theirs) in now.items():
            if theirs is None:
                raise ModelElsewhere(self._node, path, "is not there")
            if theirs[0] != ours[0]:
                raise ModelElsewhere(self._node, path, "has another size there")
        unsure = [path for path, states in now.items() if self._same.get(path) != states]
        if not unsure:
            return
        self._call("begin_hashing", unsure)
        here = [sha256_of(path, go_on) for path in unsure]
        while (found := self._call("hashed")) is None:
            go_on()
            time.sleep(_LOOK_SECONDS)
        for path, content, other in zip(unsure, here, found, strict=True):
            if not other:
                raise ModelElsewhere(self._node, path, "cannot be read there")
            if content != other:
                raise ModelElsewhere(self._node, path, "has other content there")
            self._same[path] = now[path]

    def _call(self, method: str, *arguments: object) -> Any:
        return self._actor.call(method, *arguments, patience=_ANSWER_SECONDS)
