"""A model from disk onto the device, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.device import traits_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import vae_numerics
from domains.inference.types import PrecisionMode
from domains.model.backends.diffusers_folder import (
    MAX_TOKENIZER_FILE_BYTES,
    TOKENIZER_FILES,
    FolderPlan,
    fingerprint,
    inspect_folder,
)
from domains.model.backends.model_files import Fingerprint, ModelFiles
from domains.model.backends.networks import build_empty, fill
from domains.model.errors import ModelNotFound
from domains.session.types import TransferProgress
from domains.values import ModelPlace

# At most so many progress events per model; a stop is looked for as often.
_REPORTS = 100
_LEAST_REPORT_BYTES = 1 << 20


def load_model(
    model_id: str,
    place: ModelPlace,
    precision: PrecisionMode,
    device: torch.device,
    *,
    emit: Callable[[TransferProgress], None],
    check_stop: Callable[[], None],
) -> LoadedModel:
    """Load every network and tokenizer of the model folder at `place`.

    Everything is checked before the first tensor is read, so a model that cannot be used
    is refused in milliseconds.

    Args:
        model_id: What it is called elsewhere.
        place: A folder in the diffusers layout. Every file is judged anew when it is
            opened: the scan that found it may be seconds old.
        precision: Both start from the same exact numbers; speed is measured later.
        device: Where the networks go.
        emit: Called with `TransferProgress`.
        check_stop: Called around each component and while reading large ones.

    Raises:
        ModelNotFound: It is no longer there.
        FailedPrecondition: As `inspect_folder` and `build_empty`; MODEL_INCOMPLETE also
            where the machine cannot read a file of it at the moment.
        PathOutsideRoot: A part of it is a link that leads outside its root.
    """
    check_stop()
    state = state_of(model_id, place)
    with _read_by_the_machine():
        plan = inspect_folder(ModelFiles(place))
    empty = [build_empty(network) for network in plan.networks]
    with _read_by_the_machine():
        tokenizers = {
            name: _tokenizer(plan.files, name, class_name)
            for name, class_name in plan.tokenizers.items()
        }
    traits = traits_of(device)
    vae_config = next(n.config for n in plan.networks if n.name == "vae")
    vae = vae_numerics(traits, vae_config)
    types = {"unet": traits.exact.data_type, "vae": vae.data_type}
    progress = _Progress(plan, emit, check_stop)
    networks = {}
    for network in empty:
        name = network.plan.name
        progress.start(name)
        with _read_by_the_machine():
            networks[name] = fill(
                network,
                data_type=types.get(name, traits.text_data_type),
                device=device,
                on_bytes=progress.add,
            )
        progress.report()
    return LoadedModel(
        model_id=model_id,
        place=place,
        precision=precision,
        fingerprint=state,
        plan=plan,
        device=device,
        networks=networks,
        tokenizers=tokenizers,
        unet_numerics=traits.exact,
        vae_numerics=vae,
    )


def state_of(model_id: str, place: ModelPlace) -> Fingerprint:
    """The state of a model's files, to notice that one changed.

    Raises:
        ModelNotFound: It is no longer there.
        FailedPrecondition: MODEL_INCOMPLETE, where it cannot be read.
        PathOutsideRoot: A part of it is a link that leads outside its root.
    """
    files = ModelFiles(place)
    with _read_by_the_machine():
        if not files.exists():
            raise ModelNotFound(model_id, "its files are no longer in the model folder.")
        return fingerprint(files)


class _Progress:
    """Counts bytes over the whole model and reports now and then."""

    def __init__(
        self,
        plan: FolderPlan,
        emit: Callable[[TransferProgress], None],
        check_stop: Callable[[], None],
    ) -> None:
        self._emit = emit
        self._check_stop = check_stop
        self._total = plan.size_bytes
        self._interval = max(self._total // _REPORTS, _LEAST_REPORT_BYTES)
        self._component = ""
        self._done = 0
        self._reported = 0

    def start(self, component: str) -> None:
        """Bytes belong to `component` from here on."""
        self._component = component
        self._check_stop()

    def add(self, count: int) -> None:
        """Count bytes read; report and look for a stop when enough have come together."""
        self._done += count
        if self._done - self._reported >= self._interval:
            self.report()

    def report(self) -> None:
        """Report how far it is and look for a stop."""
        if self._reported != self._done:
            self._reported = self._done
            self._emit(TransferProgress(self._component, self._done, self._total))
        self._check_stop()


@contextmanager
def _read_by_the_machine() -> Iterator[None]:
    """A machine that cannot read a file of the model as the reason that there is none."""
    try:
        yield
    except OSError as error:
        raise FailedPrecondition(
            f"A file of the model cannot be read at the moment: {error.strerror}. Look at "
            "the disk that it lies on.",
            reason=Reason.MODEL_INCOMPLETE,
        ) from error


def _tokenizer(files: ModelFiles, name: str, class_name: str) -> Any:
    cls: Any = getattr(transformers, class_name)
    # The library opens what it reads by path. It gets copies of what was judged.
    with tempfile.TemporaryDirectory(prefix="deviceops-tokenizer-") as folder:
        for file in TOKENIZER_FILES:
            if files.has_file(f"{name}/{file}"):
                content = files.read(f"{name}/{file}", MAX_TOKENIZER_FILE_BYTES)
                Path(folder, file).write_bytes(content)
        try:
            return cls.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FailedPrecondition(
                f"The model's {name} cannot be read.",
                reason=Reason.MODEL_CONFIG_INVALID,
                metadata={"component": name},
            ) from error
