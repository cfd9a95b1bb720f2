"""Compiled code: asked for by what is seen, used where it is right and faster."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.utils import _pytree as pytree

from domains.inference.backends import loaded_model, trial_time
from domains.inference.backends.compilation import (
    code_answers,
    noted_calls,
    runs_code,
    undo,
    use_code,
    without_compiled_code,
)
from domains.inference.backends.compiled.call import CodeCall
from domains.inference.backends.compiled.code import Code
from domains.inference.backends.compiled.making import (
    CodeFacts,
)
from domains.inference.backends.compiled.order import CodeOrder, Subject
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.compiled.trial import most_difference
from domains.inference.backends.device import Numerics
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import apply
from domains.inference.types import PrecisionMode
from tests.domains.inference.backends.compiled_unet import arguments, small_unet
from tests.domains.inference.backends.test_code_shelf import settled
from tests.domains.inference.backends.test_step_graphs import Replaying

Run = Callable[[Sequence[torch.Tensor]], Any]
NUMERICS = Numerics(torch.float32)


class Unhurried(nn.Module):
    """A network that takes a moment: code for it is faster."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.config = {"name": "unhurried"}

    def forward(self, sample: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        """Twice as much."""
        time.sleep(0.01)
        return (sample * self.weight,)


@dataclass
class Whole:
    """A run as code of which nothing is shared between steps."""

    run: Run
    steady: Sequence[bool] = ()

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return []

    def step(self, tensors: Sequence[torch.Tensor], kept: list[torch.Tensor]) -> Any:
        return self.run(tensors)


class Parted(Whole):
    """A run before which steps have something to share, which takes a while."""

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        time.sleep(0.02)
        return []


@dataclass
class Shelf:
    """Has what a test puts there."""

    run: Run | None = None
    asked: list[CodeOrder] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def want(self, order: CodeOrder) -> None:
        self.asked.append(order)

    def code(self, order: CodeOrder) -> Any:
        return None if self.run is None else self

    def of(self, module: nn.Module) -> Whole:
        # What there is when it is called: tests take it away again.
        return Whole(lambda tensors, run=self.run: run(tensors))  # type: ignore[misc]

    def refuse(self, order: CodeOrder, why: str) -> None:
        self.refused.append(why)


def used(network: nn.Module, shelf: Any) -> None:
    use_code(network, "", NUMERICS, shelf, lambda: None)


def called(network: nn.Module, *shape: int) -> torch.Tensor:
    result: torch.Tensor = network(torch.ones(shape), return_dict=False)[0]
    return result


def test_code_runs_once_it_is_there() -> None:
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    for _ in range(2):
        assert called(network, 1, 2, 4, 4).amax() == 2
    assert len(shelf.asked) == 1, "one form of arguments was seen"
    shelf.run = lambda tensors: (tensors[0] * 2,)
    assert not runs_code(network), "not in the middle of a picture"
    used(network, shelf)
    assert runs_code(network)
    named = {"return_dict": False}
    assert code_answers(network, (torch.ones(1, 2, 4, 4),), named)
    assert not code_answers(network, (torch.ones(1, 2, 8, 4),), named)
    assert not code_answers(network, (torch.ones(2, 2, 4, 4),), named)
    shelf.run = None
    network.weight.fill_(5)
    with noted_calls(network) as noted:
        assert called(network, 1, 2, 4, 4).amax() == 2, "code ran"
        assert called(network, 1, 2, 8, 4).amax() == 5, "there is none for that form"
    assert noted == [True, False]
    assert [order.leaves[0].shape for order in shelf.asked] == [(1, 2, 4, 4), (1, 2, 8, 4)]  # type: ignore[union-attr]
    with without_compiled_code(network):
        assert not code_answers(network, (torch.ones(1, 2, 4, 4),), named)
        with noted_calls(network) as noted:
            assert called(network, 1, 2, 4, 4).amax() == 5
        assert noted == []
    assert called(network, 1, 2, 4, 4).amax() == 2
    undo(network)
    assert called(network, 1, 2, 4, 4).amax() == 5


def test_code_that_stepped_aside_is_not_put_back_in() -> None:
    """Others that share a network's passes begin while it runs without code."""
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    shelf.run = lambda tensors: (tensors[0] * 2,)
    call = network._compiled_call_impl
    with without_compiled_code(network):
        with without_compiled_code(network):
            used(network, shelf)
        used(network, shelf)
        for several in range(2, 6):
            called(network, several, 2, 4, 4)
        assert not runs_code(network)
    assert len(shelf.asked) == 1, "calls for several ask for nothing"
    assert network._compiled_call_impl is call
    assert not runs_code(network)
    used(network, shelf)
    assert runs_code(network)


def test_what_was_recorded_before_code_came_is_out_of_date() -> None:
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    call: Any = network._compiled_call_impl
    assert call.adopted == 0
    shelf.run = lambda tensors: (tensors[0] * 2,)
    used(network, shelf)
    assert network._compiled_call_impl is call
    assert call.adopted == 1


def _slow(tensors: Sequence[torch.Tensor]) -> Any:
    time.sleep(0.02)
    return (tensors[0] * 2,)


def _broken(tensors: Sequence[torch.Tensor]) -> Any:
    raise RuntimeError("no kernel image")


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (lambda tensors: (tensors[0] * 2.01,), "differs"),
        (lambda tensors: (tensors[0] * float("nan"),), "differs"),
        (_slow, "takes"),
        (_broken, "RuntimeError"),
    ],
)
def test_code_that_is_wrong_or_does_not_pay_is_refused(run: Run, why: str) -> None:
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    shelf.run = run
    used(network, shelf)
    assert not runs_code(network)
    assert len(shelf.refused) == 1
    assert why in shelf.refused[0]
    used(network, shelf)
    assert len(shelf.refused) == 1, "it is tried once"
    assert called(network, 1, 2, 4, 4).amax() == 2


def test_where_memory_is_short_code_is_tried_another_time() -> None:
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)

    def short(tensors: Sequence[torch.Tensor]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    shelf.run = short
    used(network, shelf)
    assert not runs_code(network)
    assert not shelf.refused
    shelf.run = lambda tensors: (tensors[0] * 2,)
    used(network, shelf)
    assert runs_code(network)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
    ],
)
def test_what_stands_in_the_way_of_a_trial_for_now_is_no_reason_to_refuse(
    error: Exception,
) -> None:
    """Kernels are unpacked, and their launchers compiled, when they are first called."""
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)

    def hindered(tensors: Sequence[torch.Tensor]) -> Any:
        raise error

    shelf.run = hindered
    used(network, shelf)
    assert not shelf.refused
    shelf.run = lambda tensors: (tensors[0] * 2,)
    used(network, shelf)
    assert runs_code(network)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 0.0])
def test_a_broken_checkpoint_says_nothing_about_code(weight: float) -> None:
    """The code is that of all checkpoints of the architecture."""
    network, shelf = Unhurried(), Shelf()
    network.weight.fill_(weight)
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    shelf.run = lambda tensors: (tensors[0] * network.weight,)
    used(network, shelf)
    assert not runs_code(network)
    network.weight.fill_(2)
    used(network, shelf)
    assert not runs_code(network), "it is tried with other arguments"
    called(network, 1, 2, 4, 4)
    used(network, shelf)
    assert not shelf.refused
    assert runs_code(network)


@pytest.mark.parametrize("slow_calls", [1, 2])
def test_one_slow_moment_does_not_decide_for_good(
    monkeypatch: pytest.MonkeyPatch, slow_calls: int
) -> None:
    monkeypatch.setattr(trial_time, "_LONG_TRIAL_SECONDS", 0.0)
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    # The first call is that whose numbers are looked at.
    seconds = [0.0, *[0.05] * slow_calls]

    def run(tensors: Sequence[torch.Tensor]) -> Any:
        time.sleep(seconds.pop(0) if seconds else 0)
        return (tensors[0] * 2,)

    shelf.run = run
    used(network, shelf)
    assert not shelf.refused
    assert runs_code(network)


@pytest.mark.parametrize(
    ("recorder", "runs"), [(None, False), (Replaying(), True), (Replaying(failing=True), False)]
)
def test_what_steps_share_counts_where_every_call_computes_it(
    monkeypatch: pytest.MonkeyPatch, recorder: Replaying | None, runs: bool
) -> None:
    """Recorded steps compute it once for all."""
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    called(network, 1, 2, 4, 4)
    shelf.run = lambda tensors: (tensors[0] * 2,)
    monkeypatch.setattr(Shelf, "of", lambda shelf, module: Parted(shelf.run))
    use_code(network, "", NUMERICS, shelf, lambda: recorder)  # type: ignore[arg-type]
    assert runs_code(network) is runs
    assert len(shelf.refused) == (not runs)


def test_an_autoencoder_is_tried_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of the denoiser alone are recorded."""
    found: dict[str, Any] = {}

    def use(network: Any, part: str, numerics: Numerics, shelf: Any, recorder: Any) -> None:
        found[network] = recorder()

    monkeypatch.setattr(loaded_model, "use_code", use)
    monkeypatch.setattr(loaded_model, "recorder_for", lambda device: "recorder")
    model: Any = SimpleNamespace(
        code=Shelf(),
        device=None,
        networks={"unet": "unet", "vae": "vae"},
        precision=PrecisionMode.FASTEST,
        unet_numerics=NUMERICS,
        vae_numerics=NUMERICS,
    )
    LoadedModel.use_code(model)
    assert found == {"unet": "recorder", "vae": None}


def test_what_an_order_cannot_say_is_not_asked_for() -> None:
    network, shelf = Unhurried(), Shelf()
    network.forward = lambda sample, **_named: (sample,)  # type: ignore[method-assign]
    used(network, shelf)
    network(torch.ones(1), return_dict=object())
    assert shelf.asked == []


def test_an_order_is_the_same_in_every_process() -> None:
    """Diffusers lists which values are defaults by way of a set of names."""
    orders = []
    for noted in (["dropout", "act_fn"], ["act_fn", "dropout"]):
        network, shelf = Unhurried(), Shelf()
        network.config["_use_default_values"] = noted  # type: ignore[assignment]
        used(network, shelf)
        called(network, 1, 2, 4, 4)
        orders += shelf.asked
    assert orders[0].key == orders[1].key


def test_code_is_asked_for_a_few_forms_alone() -> None:
    network, shelf = Unhurried(), Shelf()
    used(network, shelf)
    for edge in range(1, 12):
        called(network, 1, 1, edge, 1)
    assert len(shelf.asked) == 6


def test_rounding_is_told_from_mistakes_by_the_type() -> None:
    limits = [most_difference(each) for each in (torch.float32, torch.float16, torch.bfloat16)]
    assert limits == sorted(limits)
    assert limits[0] == 1e-4
    assert limits[1] == pytest.approx(1.56e-2, rel=0.01)


# With the compiler.


def tensors_of(leaves: Sequence[Any]) -> list[torch.Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


@pytest.mark.matrix  # a compiler works for a minute
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it loads
@pytest.mark.parametrize("channels_last", [False, True])
def test_real_code_computes_with_the_weights_there_are(
    tmp_path: Path,
    channels_last: bool,
) -> None:
    torch.manual_seed(0)
    numerics = Numerics(torch.float32, channels_last)
    autoencoder: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(4, 4),
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=8,
    ).eval()
    apply(autoencoder, numerics)
    latents, shelf = torch.randn(1, 4, 8, 8), CodeShelf(tmp_path / "compiled")
    with torch.no_grad():
        use_code(autoencoder, "decoder", numerics, shelf, lambda: None)
        plain = autoencoder.decode(latents, return_dict=False)[0]
        shelf.settled(lambda: None)
        (asked,) = autoencoder.decoder._compiled_call_impl._asked.values()
        code = shelf.code(asked.order)
        assert code is not None
        made = code.of(autoencoder.decoder)

        def run() -> torch.Tensor:
            tensors = tensors_of(asked.leaves)
            given: torch.Tensor = made.step(tensors, made.before(tensors))
            return given

        assert torch.allclose(run(), plain, atol=1e-5)
        for each in autoencoder.decoder.parameters():
            each.mul_(1.1)
        changed = autoencoder.decode(latents, return_dict=False)[0]
        assert not torch.allclose(changed, plain, atol=1e-5)
        assert torch.allclose(run(), changed, atol=1e-5)
    again = CodeShelf(tmp_path / "compiled", ["nothing that could make it"])
    assert settled(again, asked.order) is not None


@pytest.mark.matrix  # likewise
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_code_of_a_denoiser_computes_texts_apart(tmp_path: Path) -> None:
    numerics = Numerics(torch.float32, channels_last=True)
    unet, shelf = small_unet(numerics), CodeShelf(tmp_path / "compiled")
    with torch.no_grad():
        use_code(unet, "", numerics, shelf, lambda: None)
        sample, text = arguments(1, numerics)
        unet(sample, torch.tensor(500), **text)
        shelf.settled(lambda: None)
        (asked,) = unet._compiled_call_impl._asked.values()
        assert asked.order.steady == (False, False, True, True, True)
        made = shelf.code(asked.order).of(unet)  # type: ignore[union-attr]
        shared = tensors_of(asked.leaves)
        kept = made.before(shared)
        # Keys and values of four layers, the embedding of size and text, a doubling's kernel,
        # and of each layer the weights of self-attention as one.
        assert len(kept) == 4 * 2 + 1 + 1 + 4
        for timestep in (900, 100):
            tensors = [sample, torch.tensor(timestep), *shared[2:]]
            wanted = unet._call_impl(sample, torch.tensor(timestep), **text)[0]
            assert torch.allclose(made.step(tensors, kept)[0], wanted, atol=1e-4)


def test_code_needs_the_weights_it_was_made_for() -> None:
    form = pytree.treespec_dumps(pytree.tree_structure((1,)))
    facts = CodeFacts(names=("missing",), steady=(), before=(), step=(0,), result=form)
    code = Code(None, lambda *given: given, facts)
    with pytest.raises(KeyError, match="missing"):
        code.of(nn.Linear(1, 1))


def test_the_subject_of_a_part_is_the_part() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2))
    assert Subject(network, "1", False).module is network[1]
    call = CodeCall(Subject(network, "1", False), Shelf())  # type: ignore[arg-type]
    assert call.adopted == 0
    assert replace(Subject(network, "1", False), part="0").module is network[0]
