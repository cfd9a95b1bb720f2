"""Calls of a network by their recordings, with a recorder for the processor."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from domains.inference.backends.network_state import PlacedHook, Places
from domains.inference.backends.step_graphs import StepGraphs, recorder_for


class Replaying:
    """Records on the processor: a replay computes anew from the same places into the same."""

    def __init__(self, *, failing: bool = False) -> None:
        self.recorded = self.replayed = self.let_go_of = 0
        self.failing = failing

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        if self.failing:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        results = run()

        def replay() -> None:
            self.replayed += 1
            for result, again in zip(results, run(), strict=True):
                result.copy_(again)

        return replay, results

    def let_go(self) -> None:
        self.let_go_of += 1


class Net(nn.Module):
    """What a UNet is called like."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, sample: Any, time: Any, *, added: Any = None, return_dict: bool) -> Any:
        result = self.layer(sample) * time
        return (result if added is None else result + added["bias"],)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().requires_grad_(False)


@pytest.fixture
def recorder() -> Replaying:
    return Replaying()


@pytest.fixture
def graphs(recorder: Replaying) -> StepGraphs:
    return StepGraphs(recorder, torch.device("cpu"))


def call(unet: Any, rows: int = 2, time: float = 1.0, **more: Any) -> tuple[Any, Any]:
    """What came out of one call, and its input."""
    sample = torch.randn(rows, 4)
    return unet(sample, torch.tensor(time), return_dict=False, **more)[0], sample


def test_from_the_second_call_on_it_is_replayed(
    net: Net, graphs: StepGraphs, recorder: Replaying
) -> None:
    unet = graphs.bound(net)
    results = []
    for step in range(1, 5):
        result, sample = call(unet, time=step)
        assert torch.equal(result, net(sample, torch.tensor(step), return_dict=False)[0])
        results.append((result, result.clone()))

    assert (recorder.recorded, recorder.replayed) == (1, 3)
    # What was given is the caller's: later calls leave it alone.
    assert all(torch.equal(given, then) for given, then in results)


def test_each_shape_has_its_own(net: Net, graphs: StepGraphs, recorder: Replaying) -> None:
    unet = graphs.bound(net)
    bias = {"bias": torch.ones(4)}
    for _ in range(3):
        for rows, more in ((1, {}), (2, {}), (2, {"added": bias})):
            result, sample = call(unet, rows, **more)
            assert torch.equal(result, net(sample, 1.0, return_dict=False, **more)[0])

    assert recorder.recorded == graphs.count == 3
    assert recorder.replayed == 6


def test_the_least_recently_used_gives_way(net: Net, graphs: StepGraphs) -> None:
    unet = graphs.bound(net)
    for rows in range(1, 12):
        call(unet, rows)
        call(unet, rows)
    assert graphs.count == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.layer.weight, "data", net.layer.weight * 2),
        lambda net: net.to(torch.float64).to(torch.float32),
        lambda net: setattr(net.layer, "bias", nn.Parameter(torch.ones(4))),
    ],
)
def test_moved_weights_are_seen(
    net: Net, graphs: StepGraphs, recorder: Replaying, change: Callable[[Net], Any]
) -> None:
    for _ in range(3):
        call(graphs.bound(net))
    held = list(net.parameters())  # or the new ones may lie at the same place
    change(net)
    unet = graphs.bound(net)
    result, sample = call(unet)

    assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert recorder.let_go_of >= 1
    assert graphs.count == 0
    del held


def test_weights_written_in_place_are_used_by_what_was_recorded(
    net: Net, graphs: StepGraphs, recorder: Replaying
) -> None:
    for _ in range(3):
        call(graphs.bound(net))
    net.layer.weight.mul_(2)
    result, sample = call(graphs.bound(net))

    assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert recorder.recorded == 1


def test_other_settings_record_anew(net: Net, graphs: StepGraphs, recorder: Replaying) -> None:
    for settings in ("one", "one", "two", "two"):
        call(graphs.bound(net, settings))
    assert recorder.recorded == 2


def test_hooks_run(net: Net, graphs: StepGraphs, recorder: Replaying) -> None:
    """And what was recorded without them is kept for later."""
    for _ in range(2):
        call(graphs.bound(net))
    hook = net.layer.register_forward_hook(lambda _net, _in, out: out + 1)
    result, sample = call(graphs.bound(net))
    assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    hook.remove()
    result, sample = call(graphs.bound(net))

    assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert recorder.recorded == 1


class Adding(PlacedHook):
    """Adds what lies in its place."""

    def __init__(self, placed: bool = True) -> None:
        self.bias = torch.ones(4)
        self.places = Places([self.bias]) if placed else None

    def __call__(self, _module: nn.Module, _inputs: Any, result: torch.Tensor) -> torch.Tensor:
        return result + self.bias


def test_hooks_whose_places_are_known_are_recorded(
    net: Net, graphs: StepGraphs, recorder: Replaying
) -> None:
    """Beside what was recorded without them, and by their places."""
    one, other = Adding(), Adding()
    for number, hook in enumerate((None, one, None, other, one, None, other)):
        handle = None if hook is None else net.layer.register_forward_hook(hook)
        for place in () if hook is None else (hook.bias,):
            place.fill_(number)
        for _ in range(2):
            result, sample = call(graphs.bound(net))
            assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
        if handle is not None:
            handle.remove()
    assert recorder.recorded == graphs.count == 3
    assert recorder.replayed == 3 + 2 * 4
    assert recorder.let_go_of == 1  # at the beginning


@pytest.mark.parametrize("others", ["unknown", "without a place", "before"])
def test_beside_other_hooks_they_run_plainly(
    net: Net, graphs: StepGraphs, recorder: Replaying, others: str
) -> None:
    net.layer.register_forward_hook(Adding())
    if others == "before":
        net.register_forward_pre_hook(lambda _net, given: given)
    elif others == "unknown":
        net.register_forward_hook(lambda _net, _in, out: out)
    else:
        net.layer.register_forward_hook(Adding(placed=False))
    for _ in range(3):
        assert graphs.bound(net) is net
        call(graphs.bound(net))
    assert recorder.recorded == 0


class Code:
    """Compiled code in a layer's place."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.adopted = layer, 1

    def __call__(self, given: torch.Tensor) -> Any:
        return self.layer._call_impl(given)  # type: ignore[operator]


def test_compiled_code_that_steps_aside_finds_its_recordings_again(
    net: Net, graphs: StepGraphs, recorder: Replaying
) -> None:
    code = Code(net.layer)
    for runs in (code, None, code, None):
        net.layer._compiled_call_impl = runs
        for _ in range(2):
            call(graphs.bound(net))
    assert recorder.recorded == graphs.count == 2


@pytest.mark.parametrize("other", ["more of it", "another"])
def test_other_compiled_code_is_recorded_anew(
    net: Net, graphs: StepGraphs, recorder: Replaying, other: str
) -> None:
    net.layer._compiled_call_impl = code = Code(net.layer)
    for _ in range(2):
        call(graphs.bound(net))
    if other == "another":
        net.layer._compiled_call_impl = Code(net.layer)
    else:
        code.adopted += 1
    call(graphs.bound(net))
    assert (recorder.recorded, graphs.count) == (1, 0)


def test_what_cannot_be_recorded_runs_plainly(net: Net) -> None:
    graphs = StepGraphs(Replaying(failing=True), torch.device("cpu"))
    unet = graphs.bound(net)
    for _ in range(4):
        result, sample = call(unet)
        assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert graphs.count == 0


def test_what_there_is_no_memory_for_is_tried_again_ever_later(
    net: Net, recorder: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = StepGraphs(recorder, torch.device("cpu"))
    tries: list[int] = []
    pictures: list[int] = []
    record = recorder.record

    def short(run: Callable[[], Any]) -> Any:
        tries.append(len(pictures))
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(recorder, "record", short)
    for picture in range(16):
        pictures.append(picture)
        unet = graphs.bound(net)
        for _ in range(3):
            result, sample = call(unet)
            assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert tries == [1, 3, 7, 15]
    monkeypatch.setattr(recorder, "record", record)
    for _ in range(16):
        for _ in range(3):
            call(unet)
        unet = graphs.bound(net)
    assert graphs.count == 1
    assert graphs.replays > 0


def test_what_cannot_be_recorded_with_hooks_alone_runs_plainly_with_them(
    net: Net, graphs: StepGraphs, recorder: Replaying
) -> None:
    call(graphs.bound(net))
    hook = net.layer.register_forward_hook(Adding())
    recorder.failing = True
    unet = graphs.bound(net)
    for _ in range(4):
        result, sample = call(unet)
        assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    recorder.failing = False
    assert not graphs.records_hooks
    for _ in range(3):
        assert graphs.bound(net) is net
        call(unet)
    assert (recorder.recorded, graphs.count) == (0, 0)
    hook.remove()
    for _ in range(2):
        result, sample = call(graphs.bound(net))
        assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert (recorder.recorded, graphs.count) == (1, 1)


def test_let_go_forgets_and_goes_on(net: Net, graphs: StepGraphs, recorder: Replaying) -> None:
    unet = graphs.bound(net)
    for _ in range(2):
        call(unet)
    graphs.let_go()
    assert graphs.count == 0
    for _ in range(2):
        result, sample = call(unet)
        assert torch.equal(result, net(sample, 1.0, return_dict=False)[0])
    assert recorder.recorded == 2


def test_the_processor_records_nothing() -> None:
    assert recorder_for(torch.device("cpu")) is None


# Calls in two: what a picture's steps share, and each step.


class Parted:
    """Answers a net's calls: the text is worked on before, the sample in each step."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.steady = (False, False, True)

    def strokes(self, leaves: list[Any], form: Any) -> Parted | None:
        return self if isinstance(leaves[-1], torch.Tensor) else None

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self.done.append("before")
        return [tensors[2] * 10]

    def step(self, tensors: Sequence[torch.Tensor], kept: list[torch.Tensor]) -> Any:
        self.done.append("step")
        return (tensors[0] * tensors[1] + kept[0],)

    def __call__(
        self, sample: Any, time: Any, *, added: Any = None, return_dict: bool = False
    ) -> Any:
        text = torch.zeros(4) if added is None else added["bias"]
        return self.step([sample, time, text], self.before([sample, time, text]))


@pytest.fixture
def parted(net: Net) -> Parted:
    call: Any = Parted()
    net._compiled_call_impl = call
    parted: Parted = call
    return parted


def stepped(unet: Any, text: torch.Tensor, steps: int = 3) -> None:
    """A picture's steps, each right."""
    for step in range(steps):
        result, sample = call(unet, time=float(step), added={"bias": text})
        assert torch.equal(result, sample * step + text * 10)


def test_what_steps_share_is_done_once_a_picture(
    net: Net, graphs: StepGraphs, parted: Parted, recorder: Replaying
) -> None:
    text = torch.ones(4)
    stepped(graphs.bound(net), text)
    # A first call as it is, then both are recorded, and done again by their recordings.
    assert parted.done == ["before", "step"] * 2 + ["before", "step", "step"]
    assert (recorder.recorded, graphs.count) == (2, 1)
    parted.done.clear()
    stepped(graphs.bound(net), text)
    assert parted.done == ["before", "step", "step", "step"], "weights may be others"


def test_another_text_is_seen_within_a_picture(
    net: Net, graphs: StepGraphs, parted: Parted
) -> None:
    unet, one, other = graphs.bound(net), torch.ones(4), torch.full((4,), 2.0)
    stepped(unet, one)
    parted.done.clear()
    for text in (other, other, one, one):
        stepped(unet, text, steps=1)
    assert parted.done == ["before", "step", "step"] * 2
    stepped(unet, one.clone(), steps=1)
    assert parted.done[-2:] == ["before", "step"], "equal is not enough: it is not compared"


def test_pictures_that_take_turns_have_each_their_own(
    net: Net, graphs: StepGraphs, parted: Parted
) -> None:
    unets = [graphs.bound(net), graphs.bound(net)]
    texts = [torch.ones(4), torch.full((4,), 3.0)]
    for _ in range(3):
        for unet, text in zip(unets, texts, strict=True):
            stepped(unet, text, steps=1)


class Forgetting:
    """A recorder like a card's: it does not hold on to what it has recorded."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[torch.Tensor]] = []

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        results = run()
        self.made += [weakref.ref(result) for result in results]
        return lambda: None, results

    def let_go(self) -> None:
        pass


def test_what_steps_share_stays_where_it_is(net: Net, parted: Parted) -> None:
    """Another recording would have its place otherwise, and write into it."""
    recorder = Forgetting()
    graphs = StepGraphs(recorder, torch.device("cpu"))
    unet, text = graphs.bound(net), torch.ones(4)
    for _ in range(3):
        call(unet, added={"bias": text})
    gc.collect()
    assert len(recorder.made) == 2
    assert all(each() is not None for each in recorder.made)
    graphs.let_go()
    gc.collect()
    assert all(each() is None for each in recorder.made)


class Pooling:
    """A recorder whose recordings share a pool of memory, as a card's: what one works in is
    free for what later ones keep."""

    def __init__(self) -> None:
        self._kept: list[list[torch.Tensor]] = []

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        number, results = len(self._kept), list(run())
        self._kept.append(results)

        def replay() -> None:
            for later in self._kept[number + 1 :]:
                for kept in later:
                    kept.fill_(torch.nan)
            for result, again in zip(results, run(), strict=True):
                result.copy_(again)

        return replay, results

    def let_go(self) -> None:
        self._kept.clear()


def test_what_steps_share_is_done_again_after_other_recordings(
    net: Net, parted: Parted
) -> None:
    """An interval of guidance: steps without it, with it, and without it again."""
    graphs = StepGraphs(Pooling(), torch.device("cpu"))
    guided, alone = torch.ones(2, 4), torch.full((1, 4), 2.0)
    stepped(graphs.bound(net), guided)
    for _ in range(2):
        unet = graphs.bound(net)
        for text in (alone, guided, alone):
            stepped(unet, text)
    assert graphs.count == 2
    parted.done.clear()
    stepped(unet, alone)
    stepped(unet, guided)
    assert parted.done == ["step"] * 3 + ["before"] + ["step"] * 3, "and only then"


def test_calls_that_are_not_parted_are_recorded_whole(
    net: Net, graphs: StepGraphs, parted: Parted, recorder: Replaying
) -> None:
    unet = graphs.bound(net)
    for _ in range(3):
        call(unet)
    assert recorder.recorded == 1
    parted.steady = (False, False, False)
    for _ in range(3):
        stepped(unet, torch.ones(4), steps=1)
    assert recorder.recorded == 2


def test_what_lets_go_keeps_no_network_with_code(recorder: Replaying) -> None:
    """A model's UNet goes in the middle of its work, where a refiner needs the room."""
    graphs, network = StepGraphs(recorder, torch.device("cpu")), Net().requires_grad_(False)
    network.layer._compiled_call_impl = Code(network.layer)
    for _ in range(3):
        call(graphs.bound(network))
    assert recorder.recorded == 1
    gone = weakref.ref(network.layer)
    graphs.let_go()
    del network
    gc.collect()
    assert gone() is None
