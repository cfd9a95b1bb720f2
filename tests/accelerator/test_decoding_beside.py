"""Pictures decoded beside the next ones' steps on a card: the bytes of decoding in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from domains.inference.backends import through_vae
from domains.inference.backends.engine import Engine
from domains.inference.types import SecondPass, SecondPassUpscale, resolved
from domains.session.jobs import EncodedImage
from domains.session.types import PreviewSettings
from tests.accelerator.test_step_graphs import WORK
from tests.fakes.jobs import Listener, changed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
SEVERAL = changed(WORK, seeds=(7, 8, 9, 10), steps=6)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine("cuda:0")
    yield engine
    engine.unload()


def drawn(engine: Engine, job: Any) -> list[bytes]:
    heard = Listener()
    engine.generate(job, heard)
    return [each.data for each in heard.events if isinstance(each, EncodedImage)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seamless_horizontally": True, "previews": PreviewSettings(2)},
        {
            "second_pass": SecondPass(
                scale=2.0,
                upscale=SecondPassUpscale.PIXELS,
                strength=0.7,
                steps=4,
                guidance=WORK.settings.guidance,
            )
        },
    ],
    ids=["plain", "seamless with previews", "a second pass, which is recorded anew"],
)
def test_the_bytes_are_those_of_decoding_in_turn(
    engine: Engine, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, lane = changed(SEVERAL, **changes), resolved(engine.lane)
    threads: list[bool] = []
    real = through_vae.decode_pixels

    def noted(*inputs: Any, **how: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(*inputs, **how)

    monkeypatch.setattr(through_vae, "decode_pixels", noted)
    first = drawn(engine, job)
    assert threads.count(False) == 3
    again = drawn(engine, job)  # with recorded steps
    engine.lane = None
    try:
        assert drawn(engine, job) == first == again
    finally:
        engine.lane = lane
