"""How the denoising loop uses its device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from domains.inference.backends import step_fence
from domains.inference.backends.denoise import Conditioning, StepState, denoise
from domains.inference.backends.device import Numerics
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.backends.start import Start
from domains.inference.types import GuidanceSettings, Scheduler, SchedulerSettings

STEPS = 3


class Device:
    """Torch's module for a device that notes what was asked of it and what was waited for."""

    def __init__(self) -> None:
        self.recorded: list[Any] = []
        self.waited_for: list[Any] = []

    def Event(self) -> Any:
        noted = self

        class Event:
            def record(self) -> None:
                noted.recorded.append(self)

            def query(self) -> bool:
                return self in noted.waited_for

            def synchronize(self) -> None:
                noted.waited_for.append(self)

        return Event()


def denoised(
    unet: Any,
    scheduler: Scheduler = Scheduler.EULER_DISCRETE,
    device: str = "cpu",
    addition: Any = None,
    on_step: Any = None,
) -> torch.Tensor:
    place = torch.device(device)
    schedule = build_scheduler(SchedulerSettings(scheduler), {}, steps=STEPS, skipped=0)
    return denoise(
        unet,
        schedule,
        Start(torch.randn(1, 4, 8, 8) * schedule.init_noise_sigma, 0, STEPS),
        Conditioning(torch.zeros(2, 3, 4, device=place)),
        GuidanceSettings(7.0),
        device=place,
        numerics=Numerics(torch.float32),
        step_options={},
        on_step=on_step or (lambda state: None),
        check_stop=lambda: None,
        make_room=lambda: None,
        **({} if addition is None else {"addition": addition}),
    )


def halving(sample: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
    return (sample / 2,)


def test_the_last_step_is_done_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Device()
    monkeypatch.setattr(step_fence, "backend_of", lambda device: backend)
    behind: list[int] = []

    def note(state: StepState) -> None:
        behind.append(len(backend.recorded) - len(backend.waited_for))

    denoised(halving, on_step=note)
    assert behind == [1] * STEPS  # the host asks for a step while the one before is at work
    assert backend.waited_for == backend.recorded


@pytest.mark.parametrize("scheduler", [Scheduler.EULER_DISCRETE, Scheduler.DDIM])
def test_timesteps_are_where_the_network_is_before_the_first_step(scheduler: Scheduler) -> None:
    """A copy to a device in each step would wait for all that it has to do."""
    seen: list[torch.Tensor] = []

    def unet(sample: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        seen.append(timestep)
        return halving(sample, timestep)

    def addition(*call: Any) -> dict[str, Any]:
        seen.append(call[3])
        return {}

    denoised(unet, scheduler, "meta", addition)
    assert [each.device.type for each in seen] == ["meta"] * 2 * STEPS
    assert len({each.untyped_storage()._cdata for each in seen}) == 1


def test_a_network_sees_the_schedulers_timesteps() -> None:
    seen: list[torch.Tensor] = []

    def unet(sample: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        seen.append(timestep)
        return halving(sample, timestep)

    denoised(unet)
    schedule = build_scheduler(
        SchedulerSettings(Scheduler.EULER_DISCRETE), {}, steps=STEPS, skipped=0
    )
    assert torch.equal(torch.stack(seen), schedule.timesteps)
