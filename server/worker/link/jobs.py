"""What a worker can be asked to do."""

from __future__ import annotations

from domains.chain.jobs import ChainJob, SafetyCheckJob, StepBenchmarkJob
from domains.device.jobs import OptimizationJob, ReleaseJob, SelfTestJob
from domains.inference.jobs import GenerationJob, SharedGenerationJob
from domains.model.jobs import BenchmarkJob, ComparisonJob, LoadJob

JOBS = (
    BenchmarkJob,
    ChainJob,
    ComparisonJob,
    StepBenchmarkJob,
    GenerationJob,
    SharedGenerationJob,
    LoadJob,
    OptimizationJob,
    ReleaseJob,
    SafetyCheckJob,
    SelfTestJob,
)
"""Every type of job that the product's worker has a handler for."""
