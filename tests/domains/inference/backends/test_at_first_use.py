"""What is put off is imported when it is used, and gives what it gives otherwise."""

from __future__ import annotations

import subprocess
import sys

import diffusers
import pytest

from domains.inference.backends.at_first_use import put_off

_IN_A_WORKER = """
import sys
from server.worker.child.__main__ import build_parts
build_parts("cpu")
assert "scipy.stats._stats_py" not in sys.modules
import diffusers
scheduler = diffusers.EulerDiscreteScheduler(use_beta_sigmas=True)
scheduler.set_timesteps(7)
assert "scipy.stats._stats_py" in sys.modules
print([float(sigma).hex() for sigma in scheduler.sigmas])
"""


def test_a_worker_has_the_statistics_of_scipy_at_their_first_use() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _IN_A_WORKER], capture_output=True, text=True, check=True
    )
    scheduler = diffusers.EulerDiscreteScheduler(use_beta_sigmas=True)
    scheduler.set_timesteps(7)
    assert told.stdout.strip() == str([float(sigma).hex() for sigma in scheduler.sigmas])


def test_what_is_imported_already_stays() -> None:
    put_off("scipy")
    assert sys.modules["scipy"].__name__ == "scipy"
    assert sys.modules["scipy"].__spec__ is not None


def test_an_unknown_name_is_told_as_the_module_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    put_off("colorsys")
    with pytest.raises(AttributeError, match="colorsys"):
        sys.modules["colorsys"].nothing  # noqa: B018
    assert sys.modules["colorsys"].rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
