"""A network's calls replayed as one recorded graph, where the device can record.

A step of a denoiser is thousands of launches; asked for one by one they take the host longer
than the device. A graph is asked for once. The kernels are those of the plain call, in its
order, so the numbers are the same bits.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils import _pytree as pytree

from domains.device.backends import faults
from domains.device.backends.work_stream import work_stream
from domains.inference.backends import memset_nodes
from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.network_state import (
    PlacesInOrder,
    code_of,
    hooks_of,
    weights_of,
)
from domains.inference.backends.tree_forms import as_key
from domains.inference.backends.walk import Layers

# At once: two sizes, each with and without LoRAs and ControlNets. A graph holds its inputs, and
# all share the memory that a call works in.
_MOST_GRAPHS = 8
# After so many in a row the wait for memory does not double any more.
_MOST_SHORTAGES = 6
# Of what hooks compute with, beside the graphs.
MOST_PLACED_BYTES = 1 << 30
_log = logging.getLogger("deviceops.graphs")


class Recorder(Protocol):
    """Records what a device is asked to do."""

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record `run`, which was run before.

        Returns:
            What does it again, and where its result is after each time.

        Raises:
            Exception: As torch raises it where something in `run` cannot be recorded.
        """
        ...

    def let_go(self) -> None:
        """Give the memory of what was recorded back, once nobody refers to it."""
        ...


class Strokes(Protocol):
    """A call in two: what all calls with the same steady arguments share, and each call."""

    @property
    def steady(self) -> Sequence[bool]:
        """For each tensor among the arguments, whether `before` depends on it."""
        ...

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the network's weights and the steady ones of its arguments' tensors give."""
        ...

    def step(self, tensors: Sequence[torch.Tensor], kept: list[torch.Tensor]) -> Any:
        """What the network gives, with what `before` gave."""
        ...


@runtime_checkable
class PartedCall(Protocol):
    """What stands in a network's place (`nn.Module._compiled_call_impl`) and may part calls."""

    def strokes(self, leaves: list[Any], form: pytree.TreeSpec) -> Strokes | None:
        """A call with these arguments in two; None where it is one.

        Args:
            leaves: The arguments, tensors and others.
            form: How they make up arguments.
        """
        ...


class CudaRecorder:
    """CUDA graphs, which share one pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """See `Recorder`."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        driver = memset_nodes.cuda_driver()
        graph = torch.cuda.CUDAGraph() if driver is None else torch.cuda.CUDAGraph(True)
        with torch.cuda.device(self._device):
            # Other threads ask the device how much memory is free meanwhile.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=work_stream(self._device),
                capture_error_mode="thread_local",
            ):
                result = run()
            if driver is not None:
                _instantiate(graph, driver)
        return graph.replay, result

    def let_go(self) -> None:
        """See `Recorder`."""
        self._pool = None


def _instantiate(graph: Any, driver: Any) -> None:
    try:
        memset_nodes.as_kernels(graph.raw_cuda_graph(), driver)
    except RuntimeError as error:  # it is slower as it is, and does the same
        _log.warning("memory is not set by kernels: %s", error)
    graph.instantiate()


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing does."""
    return None if work_stream(device) is None else CudaRecorder(device)


class _Key(NamedTuple):
    """What makes one call another: whether compiled code runs, where what hooks compute with
    lies, how its arguments are built, and those that are no tensors."""

    compiled: bool
    hooks: tuple[PlacesInOrder, ...]
    form: Hashable
    leaves: tuple[Any, ...]


@dataclass
class _Recorded:
    """A call whose tensors lie in `inputs`, in their order. `before` does again what depends
    on the `steady` ones alone, into `kept`: that it stays is all that holds its memory, which
    another recording would take. One made before it may work there all the same."""

    inputs: tuple[torch.Tensor, ...]
    replay: Callable[[], None]
    result: Any
    steady: Sequence[bool]
    before: Callable[[], None] | None = None
    kept: Sequence[torch.Tensor] = ()
    # Whose steady ones are in place, and which.
    _binding: object = None
    _shared: tuple[torch.Tensor, ...] = ()

    def again(self, tensors: list[torch.Tensor], binding: object) -> Any:
        """The call with these tensors; what it gives is the caller's.

        Args:
            tensors: All of them.
            binding: Stays the same as long as nobody changes weights.
        """
        shared = tuple(
            given for given, steady in zip(tensors, self.steady, strict=True) if steady
        )
        fresh = binding is not self._binding or any(
            one is not other for one, other in zip(shared, self._shared, strict=True)
        )
        for known, given, steady in zip(self.inputs, tensors, self.steady, strict=True):
            if fresh or not steady:
                known.copy_(given)
        if fresh and self.before is not None:
            self.before()
        self._binding, self._shared = binding, shared
        self.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, self.result)

    def forget(self) -> None:
        """Have `before` done again at the next call."""
        self._binding = None


class StepGraphs:
    """Recorded calls of one network: the first of a shape runs plainly, from the second on it
    is replayed.

    What cannot be recorded runs plainly ever after: with hooks, or at all. Where memory did not
    suffice it is tried again, two `bound` later at first and twice as many each time. Whatever
    moves the network's numbers between two `bound` drops all that was recorded; hooks that it
    knows of do not, nor does compiled code that steps aside.

    Args:
        recorder: None records nothing.
        device: Where the network is.
    """

    def __init__(self, recorder: Recorder | None, device: torch.device) -> None:
        self._recorder = recorder
        self._device = device
        self._recorded: OrderedDict[_Key, _Recorded | None] = OrderedDict()
        self._layers = Layers()
        self._state: Hashable = None
        self._code: Hashable = None
        self._hooks_too = True
        self._shortages = self._resting = 0
        self.replays = 0
        """How many calls were replayed so far."""

    @property
    def records_hooks(self) -> bool:
        """Whether calls with hooks are recorded here, if all that those compute with stays."""
        return self._recorder is not None and self._hooks_too

    def bound(self, network: nn.Module, settings: Hashable = None) -> Callable[..., Any]:
        """The network, to be called as itself until it is changed.

        Args:
            network: Its outputs are tensors in tuples; it keeps nothing between calls.
            settings: What else its results depend on beside its weights and hooks.
        """
        self._resting = max(0, self._resting - 1)
        if self._recorder is None or self._resting:
            return network
        tables = self._layers.of(network)
        hooks, code = hooks_of(tables), code_of((network, *tables.below))
        if hooks is None or (hooks and not self._hooks_too):
            return network
        state = (settings, weights_of(tables))
        if state != self._state or (code and code != self._code):
            self.let_go()
            self._state = state
        self._code = code or self._code

        binding = object()

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(network, (bool(code), hooks), binding, args, kwargs)

        return call

    def let_go(self) -> None:
        """Drop all graphs; the device's memory is free once its cache is emptied."""
        self._recorded.clear()
        self._code = None  # it holds on to the network
        if self._recorder is not None:
            self._recorder.let_go()

    @property
    def count(self) -> int:
        """How many calls are recorded."""
        return sum(each is not None for each in self._recorded.values())

    def _call(
        self,
        network: nn.Module,
        at_work: tuple[bool, tuple[PlacesInOrder, ...]],
        binding: object,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        hooks = at_work[1]
        if self._recorder is None or self._resting or (hooks and not self._hooks_too):
            return network(*args, **kwargs)
        leaves, form = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        key = _Key(
            *at_work,
            as_key(form),
            tuple(
                (leaf.shape, leaf.stride(), leaf.dtype)
                if isinstance(leaf, torch.Tensor)
                else leaf
                for leaf in leaves
            ),
        )
        if key not in self._recorded:
            # Libraries choose their kernels and take their memory in a first run.
            result = network(*args, **kwargs)
            self._keep(key, None)
            return result
        recorded = self._recorded[key]
        if recorded is None:
            try:
                recorded = self._record(self._recorder, network, leaves, form)
            except Exception as error:
                faults.drop_frames(error)
                # As many ways to fail as there are drivers; the plain call works everywhere.
                self._give_up(error, hooked=bool(hooks))
                return network(*args, **kwargs)
            self._keep(key, recorded)
            self._shortages = 0
        if key != next(reversed(self._recorded)):
            # Others were replayed since, and those recorded before this one may have worked
            # where it keeps what its steps share: those places were free once they had ended.
            recorded.forget()
        self._recorded.move_to_end(key)
        self.replays += 1
        return recorded.again(tensors, binding)

    def _record(
        self, recorder: Recorder, network: nn.Module, leaves: list[Any], form: Any
    ) -> _Recorded:
        own = [
            torch.empty_strided(
                leaf.shape, leaf.stride(), dtype=leaf.dtype, device=self._device
            )
            if isinstance(leaf, torch.Tensor)
            else leaf
            for leaf in leaves
        ]
        args, kwargs = pytree.tree_unflatten(own, form)
        inputs = tuple(leaf for leaf in own if isinstance(leaf, torch.Tensor))
        call = network._compiled_call_impl
        strokes = call.strokes(own, form) if isinstance(call, PartedCall) else None
        with one_at_a_time:
            if strokes is None or not any(strokes.steady):
                replay, result = recorder.record(lambda: network(*args, **kwargs))
                return _Recorded(inputs, replay, result, (False,) * len(inputs))
            before, kept = recorder.record(lambda: strokes.before(inputs))
            replay, result = recorder.record(lambda: strokes.step(inputs, kept))
        return _Recorded(inputs, replay, result, strokes.steady, before, kept)

    def _give_up(self, error: Exception, *, hooked: bool) -> None:
        _log.warning("steps are not recorded: %s", type(error).__name__)
        self.let_go()
        if faults.is_shortage(error):
            # Whoever has the memory may give it back.
            self._shortages += 1
            self._resting = 2 ** min(self._shortages, _MOST_SHORTAGES)
        elif hooked:
            self._hooks_too = False
        else:
            self._recorder = None

    def _keep(self, key: _Key, recorded: _Recorded | None) -> None:
        self._recorded[key] = recorded
        self._recorded.move_to_end(key)
        while len(self._recorded) > _MOST_GRAPHS:
            self._recorded.popitem(last=False)
        others = [each for each in self._recorded if each.hooks and each.hooks != key.hooks]
        for other in others:  # the least recently used first
            if self._placed_bytes() <= MOST_PLACED_BYTES:
                break
            del self._recorded[other]

    def _placed_bytes(self) -> int:
        kept = {places for key in self._recorded for order in key.hooks for places in order}
        return sum(places.size_bytes for places in kept)
