"""An unfinished picture, kept so that it can be drawn on to the same bytes.

A picture goes through one or more denoising loops. Of a finished loop the latents are kept that
it came to, of the one that is under way also what its scheduler holds, and of each what its
generator would give next. What lies between the loops is done again from these: it depends on
nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from domains.codec import FEW, Count, Malformed, Sha256, Value, decode, encode
from domains.private_folders import prepare
from domains.regular_files import TooLong, read_regular
from domains.session.jobs import WorkPaused
from domains.whole_files import whole_file

MOST_BYTES = 256 * 1024 * 1024
"""Of a kept picture: latents of the largest picture are a megabyte, and a scheduler keeps some."""
_MARK = b"deviceops paused 1\n"
_DIGEST_BYTES = 32
_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
    )
}
_log = logging.getLogger("deviceops.pausing")

Dimension = Annotated[int, Meta(ge=0, le=2**31)]


class KeptTensor(Value, frozen=True):
    """A tensor's numbers in memory order, and whether it was on the device."""

    data_type: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=8)]
    on_device: bool
    data: Annotated[bytes, Meta(max_length=MOST_BYTES)]


class KeptList(Value, frozen=True):
    """A list of what a scheduler holds."""

    items: Annotated[tuple[Kept, ...], Meta(max_length=10_000)]


Kept = None | bool | int | float | str | KeptTensor | KeptList


class KeptLoop(Value, frozen=True):
    """A denoising loop after `calls` calls of the UNet, `steps` steps as the user counts them.

    Without a `scheduler` it is finished.
    """

    calls: Count
    steps: Count
    latents: KeptTensor
    generator: KeptTensor
    scheduler: Annotated[dict[str, Kept], Meta(max_length=256)] | None = None


class KeptPicture(Value, frozen=True):
    """An unfinished picture of the job with that fingerprint; `widened` is whether its UNet
    computes in float32 because it had overflowed."""

    fingerprint: Sha256
    image_index: Count
    widened: bool
    loops: Annotated[tuple[KeptLoop, ...], FEW]


class NotKept(Exception):
    """A picture cannot be kept, or is no good any more; the text says why."""


@dataclass
class Loop:
    """One denoising loop as it goes: what it has come to after its last whole step.

    `latents` are None before the first step of a loop that begins at its beginning.
    """

    scheduler: Any
    generator: torch.Generator
    device: torch.device
    calls: int = 0
    steps: int = 0
    latents: torch.Tensor | None = None
    finished: bool = False
    _whole: bool = True

    def check(self, check_stop: Callable[[], None]) -> None:
        """Stop if somebody asks for it; for a pause only between whole steps."""
        with nullcontext() if self._whole else suppress(WorkPaused):
            check_stop()

    def note(self, latents: torch.Tensor, calls: int, *, whole: bool) -> None:
        """The UNet was called so often by now; `whole`: a step has ended with that."""
        self._whole = whole
        if whole:
            self.latents, self.calls, self.steps = latents, calls, self.steps + 1

    def kept(self) -> KeptLoop:
        """The loop as values.

        Raises:
            NotKept: It has not come to a step, or holds what cannot be kept.
        """
        if self.latents is None or not self._whole:
            raise NotKept("no step of it has ended")
        state = None
        if not self.finished:
            state = {
                name: _kept(value)
                for name, value in vars(self.scheduler).items()
                if name != "_internal_dict"  # its configuration
            }
        return KeptLoop(
            self.calls,
            self.steps,
            _kept_tensor(self.latents),
            _kept_tensor(self.generator.get_state()),
            state,
        )

    def take_up(self, kept: KeptLoop) -> None:
        """Be where that one was.

        Raises:
            NotKept: It is of another scheduler.
        """
        state = kept.scheduler
        if state is not None and state.keys() != vars(self.scheduler).keys() - {
            "_internal_dict"
        }:
            raise NotKept("it is of another scheduler")
        self.generator.set_state(_tensor(kept.generator, torch.device("cpu")))
        for name, value in (state or {}).items():
            setattr(self.scheduler, name, _plain(value, self.device))
        self.calls, self.steps, self.finished = kept.calls, kept.steps, state is None
        self.latents = _tensor(kept.latents, self.device)


@dataclass
class PictureLoops:
    """The denoising loops of one picture, in order; those that were kept come first.

    `widened` is whether its UNet computes in float32 because it had overflowed.
    """

    kept: tuple[KeptLoop, ...] = ()
    widened: bool = False
    _loops: list[Loop] = field(default_factory=list)

    def next(self, scheduler: Any, generator: torch.Generator, device: torch.device) -> Loop:
        """The next loop; one that was kept is where it was, its generator too.

        To be called once what comes before the loop has taken its numbers from `generator`.

        Args:
            scheduler: Fresh, its timesteps set.
            generator: The picture's.
            device: Where the loop's latents are.
        """
        loop = Loop(scheduler, generator, device)
        if len(self._loops) < len(self.kept):
            loop.take_up(self.kept[len(self._loops)])
        self._loops.append(loop)
        return loop

    def begin_again(self, *, widened: bool) -> None:
        """The picture is drawn anew from its seed."""
        self.kept, self.widened = (), widened
        self._loops.clear()

    @property
    def steps(self) -> int:
        """Steps of the picture that have been done."""
        return sum(loop.steps for loop in self._loops)

    def picture(self, fingerprint: str, image_index: int) -> KeptPicture:
        """The picture as it is now.

        Raises:
            NotKept: There is nothing of it yet, or it cannot be kept.
        """
        loops = tuple(loop.kept() for loop in self._loops if loop.latents is not None)
        if not loops:
            raise NotKept("no step of it has ended")
        return KeptPicture(fingerprint, image_index, self.widened, loops)


def write_picture(path: Path, picture: KeptPicture) -> None:
    """Have the picture at `path`, or what was there before.

    Raises:
        NotKept: It is too large, or the disk refuses; the picture is drawn anew then.
    """
    body = encode(picture)
    if len(body) > MOST_BYTES:
        raise NotKept("it is too large")
    try:
        prepare(path.parent)
        with whole_file(path) as file:
            file.write(_MARK + hashlib.sha256(body).digest() + body)
    except OSError as error:
        raise NotKept(f"its file cannot be written: {error.strerror}") from error


def read_picture(path: Path, fingerprint: str, image_index: int) -> KeptPicture:
    """The picture at `path`, which must be that of this job.

    Raises:
        NotKept: There is none, it is damaged, or of another job, model or picture.
    """
    start = len(_MARK) + _DIGEST_BYTES
    try:
        content = read_regular(path, start + MOST_BYTES)
    except (OSError, TooLong) as error:
        raise NotKept("its file is gone or no file of ours") from error
    body = content[start:]
    if not content.startswith(_MARK) or content[len(_MARK) : start] != _sha256(body):
        raise NotKept("its file is damaged")
    try:
        picture = decode(KeptPicture, body)
    except Malformed as error:
        raise NotKept("its file is of another version") from error
    if (picture.fingerprint, picture.image_index) != (fingerprint, image_index):
        raise NotKept("it is of another picture, or of other models")
    return picture


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _kept(value: object) -> Kept:
    if isinstance(value, torch.Tensor):
        return _kept_tensor(value)
    if isinstance(value, list | tuple):
        return KeptList(tuple(_kept(item) for item in value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise NotKept(f"its scheduler holds a {type(value).__name__}")


def _kept_tensor(tensor: torch.Tensor) -> KeptTensor:
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _TYPES:
        raise NotKept(f"its scheduler holds numbers of type {name}")
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return KeptTensor(name, tuple(tensor.shape), tensor.device.type != "cpu", data)


def _plain(value: Kept, device: torch.device) -> Any:
    if isinstance(value, KeptTensor):
        return _tensor(value, device if value.on_device else torch.device("cpu"))
    if isinstance(value, KeptList):
        return [_plain(item, device) for item in value.items]
    return value


def _tensor(kept: KeptTensor, device: torch.device) -> torch.Tensor:
    kind = _TYPES.get(kept.data_type)
    if kind is None:
        raise NotKept("its file is of another version")
    try:
        flat = torch.frombuffer(bytearray(kept.data), dtype=kind) if kept.data else None
        tensor = torch.empty(0, dtype=kind) if flat is None else flat
        return tensor.reshape(kept.shape).to(device)
    except (ValueError, RuntimeError) as error:
        raise NotKept("its file is damaged") from error
