"""Networks of chains and second passes on a device: read once, kept while used, let go before
models are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import torch

from domains.chain.backends.restoring.loading import load_restorer
from domains.chain.backends.restoring.restorer import Restorer
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.chain.types import RestorerModel, UpscalerModel
from domains.device.types import LoadedComponent
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.errors import ModelNotFound
from domains.values import ByteFigure, ModelPlace

_MOST_KEPT = 2


@dataclass(frozen=True)
class _Kept:
    model_id: str
    fingerprint: Fingerprint
    component: str
    network: Upscaler | Restorer
    load_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_use: datetime = field(default_factory=lambda: datetime.now(UTC))


class UpscalerShelf:
    """The upscalers and face restorers used most recently on one device. For the main thread
    alone.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._kept: OrderedDict[tuple[ModelPlace, str, bool], _Kept] = OrderedDict()

    def get(
        self,
        model: UpscalerModel,
        exact: bool,
        *,
        loading: Callable[[], None],
        check_stop: Callable[[], None],
    ) -> Upscaler:
        """An upscaler, read anew where its file is another than before.

        Args:
            model: Which one.
            exact: Whether it must compute in float32.
            loading: Called before one is read.
            check_stop: Called while it is read; what it raises leaves nothing.

        Raises:
            ModelNotFound: It is no longer there.
            DomainError: As `load_upscaler`.
        """
        found = self._get(
            model,
            "upscaler",
            exact,
            loading,
            lambda: load_upscaler(
                model.place,
                self.device,
                torch.float32 if exact else None,
                on_bytes=lambda _count: check_stop(),
            ),
        )
        assert isinstance(found, Upscaler)
        return found

    def restorer(
        self,
        model: RestorerModel,
        *,
        loading: Callable[[], None],
        check_stop: Callable[[], None],
    ) -> Restorer:
        """A face restorer, as `get`; it always computes in float32.

        Raises:
            ModelNotFound: It is no longer there.
            DomainError: As `load_restorer`.
        """
        found = self._get(
            model,
            "face_restorer",
            True,
            loading,
            lambda: load_restorer(
                model.place, self.device, on_bytes=lambda _count: check_stop()
            ),
        )
        assert isinstance(found, Restorer)
        return found

    def _get(
        self,
        model: UpscalerModel | RestorerModel,
        component: str,
        exact: bool,
        loading: Callable[[], None],
        load: Callable[[], Upscaler | Restorer],
    ) -> Upscaler | Restorer:
        files = ConfinedFiles(model.place)
        if not files.exists():
            raise ModelNotFound(model.model_id, "its file is no longer in the model folder.")
        fingerprint, key = files.states(("",)), (model.place, component, exact)
        kept = self._kept.pop(key, None)
        if kept is None or kept.fingerprint != fingerprint:
            kept = None  # both would lie on the device otherwise
            while len(self._kept) >= _MOST_KEPT:
                self._kept.popitem(last=False)
            loading()
            kept = _Kept(model.model_id, fingerprint, component, load())
        # The catalogue may name that place anew.
        self._kept[key] = replace(kept, model_id=model.model_id, last_use=datetime.now(UTC))
        return kept.network

    def let_go(self, model_ids: Collection[str] = ()) -> tuple[LoadedComponent, ...]:
        """Keep none of these, or none at all.

        Returns:
            What has gone.
        """
        gone = {
            key: kept
            for key, kept in self._kept.items()
            if not model_ids or kept.model_id in model_ids
        }
        for key in gone:
            del self._kept[key]
        return tuple(map(_component, gone.values()))

    def components(self) -> tuple[LoadedComponent, ...]:
        """What is kept, each network as one component."""
        return tuple(map(_component, self._kept.values()))


def _component(kept: _Kept) -> LoadedComponent:
    return LoadedComponent(
        model_id=kept.model_id,
        component=kept.component,
        size=ByteFigure.measured(kept.network.weight_bytes, "sum of torch.Tensor.nbytes"),
        data_type=None,
        last_use_time=kept.last_use,
        load_time=kept.load_time,
    )
