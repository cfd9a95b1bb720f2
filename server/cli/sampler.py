"""How noise becomes a picture, by the options of `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deviceops.v1 import sampling_pb2
from server.cli.choices import SCHEDULERS, SPACINGS, UnusableOptions, choose

# As the libraries call them.
ALGORITHMS: Mapping[str, str] = {
    "dpmsolver++": "DPMSOLVER_PP",
    "sde-dpmsolver++": "SDE_DPMSOLVER_PP",
    "dpmsolver": "DPMSOLVER",
    "sde-dpmsolver": "SDE_DPMSOLVER",
}
# Their share of fresh noise is another field than DDIM's.
FRESH_NOISE = frozenset(
    {
        sampling_pb2.SCHEDULER_EULER_ANCESTRAL_DISCRETE,
        sampling_pb2.SCHEDULER_KDPM2_ANCESTRAL_DISCRETE,
        sampling_pb2.SCHEDULER_TCD,
    }
)
_MOST_ORDER = 2**31 - 1


@dataclass(frozen=True)
class SamplerOptions:
    """What a person said of the sampler; None where they said nothing."""

    scheduler: str | None = None
    spacing: str | None = None
    timestep_spacing: str | None = None
    zero_snr: bool | None = None
    algorithm: str | None = None
    order: int | None = None
    churn: float | None = None
    eta: float | None = None

    @property
    def said(self) -> bool:
        """Whether anything was said."""
        return self != SamplerOptions()


def sampler_settings(
    options: SamplerOptions, usual: sampling_pb2.Scheduler.ValueType | None = None
) -> sampling_pb2.SchedulerSettings:
    """The settings. Whether the sampler has an option is the server's to judge.

    Args:
        options: What a person said.
        usual: The sampler that options belong to where they name none; it is not set.

    Raises:
        UnusableOptions: A name is unknown, or options of several samplers are mixed.
    """
    settings = sampling_pb2.SchedulerSettings(zero_terminal_snr=options.zero_snr)
    if options.scheduler:
        settings.scheduler = choose(
            sampling_pb2.Scheduler, "SCHEDULER_", options.scheduler, SCHEDULERS
        )
    if options.spacing:
        settings.spacing = choose(
            sampling_pb2.SigmaSpacing, "SIGMA_SPACING_", options.spacing, SPACINGS
        )
    if options.timestep_spacing:
        settings.timestep_spacing = choose(
            sampling_pb2.TimestepSpacing, "TIMESTEP_SPACING_", options.timestep_spacing
        )
    _check_mixture(options)
    scheduler = settings.scheduler or usual
    if options.algorithm:
        settings.solver.algorithm = choose(
            sampling_pb2.SolverAlgorithm, "SOLVER_ALGORITHM_", options.algorithm, ALGORITHMS
        )
    if options.order is not None:
        if not -_MOST_ORDER <= options.order <= _MOST_ORDER:
            raise UnusableOptions(f"--order: {options.order} does not fit into 32 bits")
        if scheduler == sampling_pb2.SCHEDULER_LMS_DISCRETE:
            settings.linear_multistep.order = options.order
        else:
            settings.solver.order = options.order
    if options.churn is not None:
        settings.churn.churn = options.churn
    if options.eta is not None:
        fresh = scheduler in FRESH_NOISE
        (settings.ancestral if fresh else settings.ddim).eta = options.eta
    return settings


def _check_mixture(options: SamplerOptions) -> None:
    """Of these the contract takes one kind: no sampler has two."""
    solver = options.algorithm is not None or options.order is not None
    kinds = (
        (solver, "--algorithm and --order"),
        (options.churn is not None, "--churn"),
        (options.eta is not None, "--eta"),
    )
    said = [names for is_said, names in kinds if is_said]
    if len(said) > 1:
        raise UnusableOptions(f"{' with '.join(said)}: no sampler has both")
