"""`python -m server.worker.child`: a worker with the product's parts."""

from __future__ import annotations

import gc
from pathlib import Path

from domains.chain.jobs import ChainJob, SafetyCheckJob, StepBenchmarkJob
from domains.device.jobs import OptimizationJob, ReleaseJob, SelfTestJob
from domains.device.types import LoadedComponent
from domains.inference.jobs import GenerationJob, SharedGenerationJob
from domains.model.jobs import BenchmarkJob, ComparisonJob, LoadJob
from server.worker.child.loop import main
from server.worker.child.parts import Buffers, Parts


def build_parts(torch_device: str, code_dir: Path | None = None) -> Parts:
    """The parts for that device, with compiled code from that folder; imports torch.

    What it imports stays. Looking through that for garbage would take an eighth of a worker's
    start, and half a second of a request's time now and then.
    """
    gc.disable()
    parts = _build_parts(torch_device, code_dir)
    gc.freeze()
    gc.enable()
    return parts


def _build_parts(torch_device: str, code_dir: Path | None) -> Parts:
    from domains.inference.backends.lean_imports import import_libraries

    import_libraries()  # before anything else imports them
    from domains.chain.backends.checking import SafetyChecking
    from domains.chain.backends.classifiers import of_this_process
    from domains.device.backends.liveness import computes
    from domains.device.backends.selftest import SelfTest
    from domains.device.backends.torch_gauge import (
        device_named,
        gauge_for,
        in_main_memory,
        single_threaded,
        stretch_on,
    )
    from domains.inference.backends import page_locks
    from domains.inference.backends.engine import Engine
    from domains.inference.backends.shared_job import SharedGeneration
    from domains.memory.backends.process_buffers import ProcessBuffers
    from domains.memory.backends.torch_buffers import TorchBuffers

    device = device_named(torch_device)
    engine = Engine(torch_device, code_dir)

    def held() -> tuple[LoadedComponent, ...]:
        page_locks.give_up_evicted()
        return engine.held()

    buffers: Buffers = ProcessBuffers() if in_main_memory(device) else TorchBuffers(device)
    return Parts(
        handlers={
            BenchmarkJob: engine.benchmark,
            ChainJob: engine.process,
            ComparisonJob: engine.compare,
            StepBenchmarkJob: engine.measure_step,
            GenerationJob: engine.generate,
            SharedGenerationJob: SharedGeneration(engine.generate_together).run,
            LoadJob: engine.load,
            OptimizationJob: engine.optimize,
            ReleaseJob: engine.release,
            SafetyCheckJob: SafetyChecking(of_this_process()).run,
            SelfTestJob: SelfTest(device),
        },
        held=held,
        buffers=buffers,
        gauge=gauge_for(device),
        stretch=lambda: stretch_on(device),
        computes=lambda: computes(device),
        single_threaded=single_threaded(device),
    )


if __name__ == "__main__":
    main(build_parts)
