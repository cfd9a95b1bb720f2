"""Options about the sampler."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from server.cli.choices import UnusableOptions
from server.cli.sampler import ALGORITHMS, SamplerOptions, sampler_settings


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        ({"timestep_spacing": "trailing"}, {"timestep_spacing": "TIMESTEP_SPACING_TRAILING"}),
        ({"zero_snr": False}, {"zero_terminal_snr": False}),
        (
            {"algorithm": "sde-dpmsolver++", "order": 3},
            {"solver": {"algorithm": "SOLVER_ALGORITHM_SDE_DPMSOLVER_PP", "order": 3}},
        ),
        (
            {"scheduler": "lms", "order": 4},
            {"scheduler": "SCHEDULER_LMS_DISCRETE", "linear_multistep": {"order": 4}},
        ),
        ({"churn": 2.0}, {"churn": {"churn": 2.0}}),
        (
            {"scheduler": "ddim", "eta": 0.5},
            {"scheduler": "SCHEDULER_DDIM", "ddim": {"eta": 0.5}},
        ),
        (
            {"scheduler": "tcd", "eta": 0.5},
            {"scheduler": "SCHEDULER_TCD", "ancestral": {"eta": 0.5}},
        ),
    ],
)
def test_options_reach_the_field_of_their_sampler(
    options: dict[str, Any], settings: dict[str, Any]
) -> None:
    asked = SamplerOptions(**options)
    assert asked.said is bool(options)
    found = json_format.MessageToDict(sampler_settings(asked), preserving_proto_field_name=True)
    assert found == settings


@pytest.mark.parametrize("name", ALGORITHMS)
def test_names_of_the_libraries_are_known(name: str) -> None:
    assert sampler_settings(SamplerOptions(algorithm=name)).solver.algorithm


def test_each_algorithm_has_its_own_name() -> None:
    """Names are compared without their signs."""
    found = [
        sampler_settings(SamplerOptions(algorithm=name)).solver.algorithm for name in ALGORITHMS
    ]
    assert len(set(found)) == len(ALGORITHMS)


@pytest.mark.parametrize(
    "options",
    [
        {"eta": 0.5, "order": 2},
        {"churn": 1.0, "algorithm": "dpmsolver"},
        {"timestep_spacing": "sideways"},
        {"order": 2**40},
    ],
)
def test_what_makes_no_settings_is_refused_here(options: dict[str, Any]) -> None:
    with pytest.raises(UnusableOptions):
        sampler_settings(SamplerOptions(**options))
