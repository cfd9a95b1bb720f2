"""Ancestral samplers with another share of fresh noise than the whole, which diffusers lacks.

Source: `get_ancestral_step`, `sample_euler_ancestral` and `sample_dpm_2_ancestral` of
k-diffusion. Of a step from one noise level to the next, `eta` decides which part of the
next level is fresh noise (`up`), and so to which one the old noise is taken down (`down`).
"""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from domains.inference.types import AncestralOptions, Scheduler

# Their attributes are made by decorators, which says nothing to a type checker.
_Euler: Any = diffusers.EulerAncestralDiscreteScheduler
_Kdpm2: Any = diffusers.KDPM2AncestralDiscreteScheduler


class EulerAncestral(_Euler):  # type: ignore[misc]
    """Euler a. What the prediction says of the picture is the library's."""

    share = AncestralOptions()
    """How much fresh noise; to be set before the first step."""

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> Any:
        """As the library's, whose result with all of the noise is left."""
        noise = randn_tensor(
            model_output.shape,
            generator=generator,
            device=model_output.device,
            dtype=model_output.dtype,
        )
        clean = super().step(model_output, timestep, sample, return_dict=False)[1]
        here, there = self.sigmas[self.step_index - 1], self.sigmas[self.step_index]
        whole = (there**2 * (here**2 - there**2) / here**2) ** 0.5
        up = torch.minimum(there, _eta(self.share) * whole)
        down = (there**2 - up**2) ** 0.5
        stepped = sample + (sample - clean) / here * (down - here)
        return (stepped + noise * (up * self.share.noise), clean)


class Kdpm2Ancestral(_Kdpm2):  # type: ignore[misc]
    """DPM2 a, whose levels are all known before the first step."""

    share = AncestralOptions()
    """How much fresh noise; to be set before the timesteps are."""
    sigmas_up: torch.Tensor
    sigmas_down: torch.Tensor
    sigmas_interpol: torch.Tensor

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, then the levels that follow from the share."""
        super().set_timesteps(*args, **kwargs)
        there = (self.sigmas_up**2 + self.sigmas_down**2) ** 0.5
        up = torch.minimum(there, _eta(self.share) * self.sigmas_up)
        down = (there**2 - up**2) ** 0.5
        between = self.sigmas.log().lerp(down.log(), 0.5).exp()
        # The last step needs none: it goes straight to the picture.
        between = torch.where(self.sigmas_interpol > 0, between, self.sigmas_interpol)
        log_sigmas = self.log_sigmas.numpy()
        self.timesteps[1::2] = torch.from_numpy(
            np.array([self._sigma_to_t(sigma, log_sigmas) for sigma in between[1:-3:2]])
        )
        self.sigmas_up, self.sigmas_down = up * self.share.noise, down
        self.sigmas_interpol = between


ANCESTRAL = {
    Scheduler.EULER_ANCESTRAL_DISCRETE: EulerAncestral,
    Scheduler.KDPM2_ANCESTRAL_DISCRETE: Kdpm2Ancestral,
}
"""Classes that stand in for the library's where a request says how much fresh noise."""


def _eta(share: AncestralOptions) -> float:
    return 1.0 if share.eta is None else share.eta
