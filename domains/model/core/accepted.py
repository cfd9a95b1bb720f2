"""What models are made of, for work that was accepted with one and begins later."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from domains.codec import encode
from domains.errors import DomainError
from domains.model.core.catalogue import ModelCatalogue
from domains.model.errors import ModelReplaced
from domains.model.ports import FileStates
from domains.model.types import FileState, Model
from domains.values import ModelContent, ModelPlace

_Unchanged = Callable[[ModelPlace, Sequence[FileState]], Awaitable[bool]]


class ModelContents:
    """Looks at the files of models themselves, whatever the last look through the roots found:
    they may have been replaced a moment ago.

    Args:
        catalogue: The models.
        states: Tells whether a model's files are as it was found.
        sha256_now: A model's hash, computed where it is not known; empty where it cannot be, or
            once the second argument says that nobody waits any more.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        states: FileStates,
        sha256_now: Callable[[Model, Callable[[], bool]], Awaitable[str]],
    ) -> None:
        self._catalogue, self._states = catalogue, states
        self._sha256_now = sha256_now

    async def of(self, model_ids: Iterable[str]) -> tuple[ModelContent, ...]:
        """See the port; hashes that are not known by now are not computed."""
        look = self._states.unchanged
        models = [await self._again(model_id, look) for model_id in model_ids]
        return tuple(_content(model) for model in models if model and model.weights)

    async def check(
        self, contents: Iterable[ModelContent], stopped: Callable[[], bool]
    ) -> None:
        """See the port. Where only the times of files changed, what is in them is read, if it
        is known what was: a copy of the same content is no other model.

        Raises:
            ModelReplaced: One has other content, or nobody knows that it has the same.
        """
        for accepted in contents:
            model = await self._again(accepted.model_id, self._states.unchanged_lately)
            if model is None:
                continue
            now = _content(model)
            if now.fingerprint == accepted.fingerprint:
                continue
            sha256 = now.sha256
            if not sha256 and accepted.sha256 and now.size_bytes == accepted.size_bytes:
                sha256 = await self._sha256_now(model, stopped)
                if stopped():
                    return
            if not sha256 or sha256 != accepted.sha256:
                raise ModelReplaced(accepted.model_id, accepted.sha256, sha256)

    async def _again(self, model_id: str, unchanged: _Unchanged) -> Model | None:
        try:
            known = await self._catalogue.get(model_id)
            if await unchanged(known.place, known.weights):
                return known
            return await self._catalogue.again(model_id)
        except DomainError:  # whoever needs it is told what is wrong with it
            return None


def _content(model: Model) -> ModelContent:
    return ModelContent(
        model.model_id,
        sum(file.size_bytes for file in model.weights),
        hashlib.sha256(encode([tuple(file) for file in model.weights])).hexdigest(),
        model.sha256,
    )
