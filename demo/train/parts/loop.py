"""The training loop: AdamW, clipping, a cosine that always ends, weight averages, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Training ends after `steps`, or after `minutes` when that comes first; the learning rate
    follows whichever is further along, so it always ends near zero. `ema` is the decay of the
    weight average that replaces the weights at the end; None keeps the last weights.
    """

    steps: int
    batch: int
    learning_rate: float
    minutes: float | None = None
    warmup: int = 100
    ema: float | None = None
    weight_decay: float = 0.01
    clip: float = 1.0


@dataclass(frozen=True)
class Training:
    """What a run did; `losses` holds the loss of every step."""

    steps: int
    seconds: float
    losses: list[float]

    @property
    def final_loss(self) -> float:
        """The mean loss of the last twentieth of the run."""
        last = self.losses[-max(1, len(self.losses) // 20) :]
        return sum(last) / len(last)

    def facts(self, plan: Plan) -> dict[str, float]:
        """What every script keeps of its run beside its own figures."""
        return {
            "loss": self.final_loss,
            "steps": self.steps,
            "seconds": self.seconds,
            "batch": plan.batch,
        }


def learning_rate(plan: Plan, step: int, progress: float) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine over progress from 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, plan.warmup))
    return plan.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Exact:
    """Parameters as an optimizer needs them: float32, where a network's own may be narrower.

    A bfloat16 parameter cannot take a step much smaller than itself. What is float32 already
    stands for itself.
    """

    def __init__(self, parameters: list[Parameter]) -> None:
        self.parameters = [
            one if one.dtype == torch.float32 else Parameter(one.detach().float())
            for one in parameters
        ]
        pairs = zip(parameters, self.parameters, strict=True)
        self._narrow = [(own, exact) for own, exact in pairs if own is not exact]

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Moves the network's gradients over."""
        given = [(own.grad, exact) for own, exact in self._narrow if own.grad is not None]
        for own, exact in self._narrow:
            exact.grad = None if own.grad is None else torch.empty_like(exact)
            own.grad = None
        if given:
            gradients, exacts = (list(side) for side in zip(*given, strict=True))
            torch._foreach_copy_([one.grad for one in exacts], gradients)

    @torch.no_grad()
    def show(self) -> None:
        """Rounds the stepped parameters into the network's."""
        if self._narrow:
            own, exact = (list(side) for side in zip(*self._narrow, strict=True))
            torch._foreach_copy_(own, exact)

    @torch.no_grad()
    def give_back(self) -> None:
        """Makes the network's parameters the float32 ones; nothing recorded sees them."""
        for own, exact in self._narrow:
            own.data = exact.data


class Average:
    """Exponential moving average of parameters, in their own precision and place."""

    def __init__(self, parameters: list[Parameter], decay: float) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._decay = decay
        self._shadow = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follows the parameters; early steps weigh more, so the start is soon forgotten."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._shadow, self._parameters, 1 - decay)

    @torch.no_grad()
    def swap_in(self) -> None:
        """Puts the average in the parameters' place."""
        for parameter, shadow in zip(self._parameters, self._shadow, strict=True):
            parameter.copy_(shadow)


def train(
    parameters: Iterable[Parameter],
    loss_of_step: Callable[[int], Tensor],
    plan: Plan,
    *,
    device: torch.device | str,
    name: str,
    clock: Callable[[], float] = time.monotonic,
) -> Training:
    """Minimises `loss_of_step(step)` over `parameters`; on CUDA under bfloat16 autocast.

    Parameters narrower than float32 are float32 afterwards.

    Raises FloatingPointError when the loss is no longer finite, ValueError without parameters.
    """
    device = torch.device(device)
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not wanted:
        raise ValueError("parameters: none asks for a gradient")
    on_cuda = device.type == "cuda"
    exact = Exact(wanted)
    optimizer = torch.optim.AdamW(
        exact.parameters,
        lr=plan.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=plan.weight_decay,
        fused=on_cuda,
    )
    average = Average(exact.parameters, plan.ema) if plan.ema is not None else None
    budget = math.inf if plan.minutes is None else plan.minutes * 60
    losses: list[float] = []
    waiting: list[Tensor] = []  # read from the device only when there is something to report
    started = reported = clock()
    step = 0
    while (progress := max(step / plan.steps, (clock() - started) / budget)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, progress)
        # Recorded passes (parts/capture.py) cast weights themselves.
        with torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=on_cuda, cache_enabled=False
        ):
            loss = loss_of_step(step)
        loss.backward()  # type: ignore[no-untyped-call]
        exact.take_gradients()
        torch.nn.utils.clip_grad_norm_(exact.parameters, plan.clip)
        optimizer.step()
        exact.show()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update(step)
        waiting.append(loss.detach())
        step += 1
        if clock() - reported >= REPORT_SECONDS:
            losses += _read(waiting, name, step)
            reported = clock()
            seconds = reported - started
            recent = sum(losses[-50:]) / len(losses[-50:])
            print(
                f"{name}: step {step} of {plan.steps}, {progress:.0%}, {seconds:.0f} s, "
                f"{step / seconds:.2f} steps/s, loss {recent:.4f}",
                flush=True,
            )
    losses += _read(waiting, name, step)
    if average is not None:
        average.swap_in()
    exact.give_back()
    return Training(step, clock() - started, losses)


def _read(waiting: list[Tensor], name: str, step: int) -> list[float]:
    if not waiting:
        return []
    values: list[float] = torch.stack(waiting).float().tolist()
    waiting.clear()
    if not all(map(math.isfinite, values)):
        raise FloatingPointError(f"{name}: the loss is no longer finite before step {step}")
    return values
