"""Pictures that are drawn side by side, whose calls of one denoiser are made together.

Each is a strand that draws as if alone, and stops where it calls its denoiser. Once all of them
stand there, or have ended, the calls of one shape are made as one, whatever step each picture
is at, and all go on. Where one has ended the next one begins: passes stay full.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import torch

from domains.device.backends import faults
from domains.inference.backends.attention_kernels import Watched
from domains.inference.backends.compilation import without_compiled_code
from domains.inference.backends.denoiser_use import Done, SoleUse
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_layers import ActiveLora
from domains.inference.backends.parts import Parts
from domains.inference.backends.pass_size import PassSize
from domains.inference.backends.shared_calls import DenoiserCall, call_alone, call_together
from domains.inference.backends.step_fence import StepFence
from domains.inference.backends.strands import Ended, Strand
from domains.inference.backends.ways import Made, Ways
from domains.values import Degradation, DegradationKind

Result = TypeVar("Result")
_MEMORY = "Memory ran out for so many pictures at once; fewer shared passes for a while."


class CannotShare(Exception):
    """This picture needs the denoiser otherwise than its neighbours: it is to be drawn alone.

    Its message says why.
    """


@dataclass
class Member(Generic[Result]):
    """A picture among others: how its drawing uses the denoiser, and what is told of that."""

    sharing: Sharing[Result]
    strand: Strand[DenoiserCall, Made, Result]
    ended: Callable[[Ended[Result]], None]
    degradations: dict[Degradation, None] = field(default_factory=dict)

    @property
    def now(self) -> Callable[[], float]:
        """Tells the seconds that were spent on it: all that it ran, and its share of passes."""
        return self.strand.now

    def use(self, model: LoadedModel, parts: Parts) -> SharedUse:
        """How it uses the denoiser of `model`, which works as `parts` say."""
        return SharedUse(self, model, parts)


@dataclass(frozen=True)
class SharedUse:
    """A `DenoiserUse` of one picture among others."""

    alone: ClassVar[bool] = False
    member: Member[Any]
    model: LoadedModel
    parts: Parts

    def at_work(self) -> ExitStack:
        """See `DenoiserUse`; the first one has it work so for all.

        Raises:
            CannotShare: Its files were changed since.
        """
        self.member.sharing.at_work(self.model, self.parts)
        return ExitStack()

    def denoiser(self, ways: Ways, shape: tuple[int, ...]) -> Any:
        """See `DenoiserUse`."""
        strand = self.member.strand

        def call(sample: torch.Tensor, timestep: torch.Tensor, **further: Any) -> Made:
            return strand.ask(DenoiserCall(sample, timestep, further))

        return ways.shared(call)

    def in_float32(self) -> AbstractContextManager[bool]:
        """See `DenoiserUse`; the others' denoiser stays as it is.

        Raises:
            CannotShare: Always.
        """
        raise CannotShare("its data type overflowed among others")

    def do(self, act: Callable[[], Done]) -> Done:
        """See `DenoiserUse`."""
        return self.member.strand.elsewhere(act)


class Sharing(Generic[Result]):
    """Draws pictures side by side.

    Args:
        device: Where.
        size: For how many at once; it learns.
    """

    def __init__(self, device: torch.device, size: PassSize) -> None:
        self._device, self._size = device, size
        self._fence = StepFence(device)
        self._work = ExitStack()
        self._model: LoadedModel | None = None
        self._unet: Callable[..., Any] | None = None
        self._loras: Hashable = None
        self._fitting: dict[Hashable, int] = {}

    def run(
        self,
        works: Sequence[Callable[[Member[Result]], Result]],
        ended: Callable[[int, Ended[Result]], None],
    ) -> None:
        """Do all of it.

        Args:
            works: Each draws a picture, using the denoiser as the member that it is given.
            ended: Hears of each, by its position, how it ended, as soon as it has.

        Raises:
            Exception: As torch raises it in a pass for several, other than a shortage of
                memory; what is unfinished has ended then.
        """
        members = [
            self._member(work, partial(ended, position)) for position, work in enumerate(works)
        ]
        waiting, asking = deque(members), dict[int, tuple[Member[Result], DenoiserCall]]()
        try:
            with self._work:
                while waiting or asking:
                    while waiting and len(asking) < self._size.most:
                        self._go_on(waiting.popleft(), None, asking)
                    for member, answer in self._answers(list(asking.values())):
                        del asking[id(member)]
                        self._go_on(member, answer, asking)
        finally:
            for member in members:
                member.strand.drop()

    def at_work(self, model: LoadedModel, parts: Parts) -> None:
        """The denoiser is to work so, as it does for all of them.

        Raises:
            CannotShare: It does otherwise.
        """
        loras = tuple(map(_identity, parts.loras))
        if self._model is None:
            self._work.enter_context(without_compiled_code(model.networks["unet"]))
            self._work.enter_context(SoleUse(model, parts).at_work())
            self._model, self._loras = model, loras
        elif self._model is not model or self._loras != loras:
            raise CannotShare("the files of its models were changed after its neighbours'")

    @property
    def _working(self) -> LoadedModel:
        """Whose denoiser is at work."""
        assert self._model is not None, "a denoiser is at work"
        return self._model

    @property
    def _denoiser(self) -> Callable[..., Any]:
        """That denoiser, which nobody changes while it is at work."""
        if self._unet is None:
            self._unet = self._working.unet_call()
        return self._unet

    def _member(
        self,
        work: Callable[[Member[Result]], Result],
        ended: Callable[[Ended[Result]], None],
    ) -> Member[Result]:
        member: Member[Result]
        member = Member(self, Strand(lambda _: work(member), self._device), ended)
        return member

    def _go_on(
        self,
        member: Member[Result],
        answer: Made | BaseException | None,
        asking: dict[int, tuple[Member[Result], DenoiserCall]],
    ) -> None:
        call = member.strand.resume(answer)
        if call is not None:
            asking[id(member)] = (member, call)
        elif (found := member.strand.ended) is not None:
            member.ended(found)

    def _answers(
        self, asking: Sequence[tuple[Member[Result], DenoiserCall]]
    ) -> Iterator[tuple[Member[Result], Made | BaseException]]:
        """What every member asked for. All passes are made before the first one goes on: where
        one begins anew, it is at the start of a round as the others are."""
        kinds: dict[Hashable, list[tuple[Member[Result], DenoiserCall]]] = {}
        for each in asking:
            kinds.setdefault(each[1].kind(), []).append(each)
        found: list[tuple[Member[Result], Made | BaseException]] = []
        for kind, same in kinds.items():
            left = deque(same)
            while left:
                count = min(len(left), self._allowed(kind, same))
                portion = [left.popleft() for _ in range(count)]
                made = self._made(kind, portion)
                if made is None:
                    left.extendleft(reversed(portion))
                else:
                    found += made
        yield from found

    def _allowed(
        self, kind: Hashable, same: Sequence[tuple[Member[Result], DenoiserCall]]
    ) -> int:
        """For how many a pass of that kind may be made now."""
        if kind not in self._fitting:
            rows = max(call.rows for _, call in same)
            config, sample = self._working.plan_config("unet"), same[0][1].sample
            self._fitting[kind] = self._size.fitting(config, sample, rows)
        return min(self._size.now, self._fitting[kind])

    def _made(
        self, kind: Hashable, portion: Sequence[tuple[Member[Result], DenoiserCall]]
    ) -> list[tuple[Member[Result], Made | BaseException]] | None:
        """One pass; None where memory ran out for so many."""
        began = time.perf_counter()
        members, calls = [each[0] for each in portion], [each[1] for each in portion]
        answers: Sequence[Made | BaseException]
        if len(calls) == 1:
            answers = [self._alone(kind, calls[0])]
        else:
            several = self._several(kind, calls)
            if several is None:
                self._size.fell_short(len(calls))
                for member in members:
                    member.degradations[Degradation(DegradationKind.SHARED_LESS, _MEMORY)] = (
                        None
                    )
                return None
            answers = several
        self._fence.step_queued()
        seconds, rows = time.perf_counter() - began, sum(call.rows for call in calls)
        for member, call in portion:
            member.strand.charge(seconds * call.rows / rows)
        self._size.went_well(len(calls))
        return list(zip(members, answers, strict=True))

    def _alone(self, kind: Hashable, call: DenoiserCall) -> Made | BaseException:
        """For one picture, whose own matter it is what goes wrong."""
        try:
            unet = self._watched(self._denoiser, kind, call.rows)
            result = call_alone(unet, call)
        except Exception as error:
            return error
        return Made(result, 1, self._kernels(kind, call.rows))

    def _several(self, kind: Hashable, calls: Sequence[DenoiserCall]) -> list[Made] | None:
        model, rows = self._working, sum(call.rows for call in calls)
        try:
            network = self._watched(self._denoiser, kind, rows)
            results = call_together(network, calls)
        except Exception as error:
            if not faults.is_shortage(error):
                raise
            faults.drop_frames(error)
        else:
            kernels = self._kernels(kind, rows)
            return [Made(result, len(calls), kernels) for result in results]
        # Out here nothing refers to the failed call's tensors any more.
        model.make_room()
        return None

    def _watched(self, network: Callable[..., Any], kind: Hashable, rows: int) -> Any:
        model, key = self._working, self._key(kind, rows)
        if key in model.attention_kernels:
            return network
        return Watched(network, lambda seen: model.attention_kernels.update({key: tuple(seen)}))

    def _kernels(self, kind: Hashable, rows: int) -> Any:
        return self._working.attention_kernels[self._key(kind, rows)]

    def _key(self, kind: Hashable, rows: int) -> Hashable:
        model = self._working
        return model.unet_numerics, model.plain_attention is None, kind, rows


def _identity(active: ActiveLora) -> Hashable:
    return (active.lora.place, active.lora.fingerprint, active.weight)
