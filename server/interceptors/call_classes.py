"""Which calls are counted together: the class of every RPC of the contract.

Each class has room of its own, so that no kind of call can keep another out: with as many
sessions streamed as there may be, they can still be listed and cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class CallClass(Enum):
    """What a call counts as."""

    TOKENLESS = "tokenless"
    """A health check without the token."""
    TOKENLESS_WATCH = "tokenless-watch"
    """A watch of health without the token."""
    HEALTH = "health"
    """A health check with the token."""
    HEALTH_WATCH = "health-watch"
    """A watch of health with the token."""
    CONTROL = "control"
    """Answered from what the server knows, without waiting for a device."""
    WORK = "work"
    """Moves bytes or waits for a device, and is no session."""
    SESSION = "session"
    """Starts a session and streams its events."""
    WATCH = "watch"
    """Streams what happens, without an end of its own; idle most of the time."""

    @property
    def health(self) -> bool:
        """Whether it is answered also while the server drains."""
        return self in _HEALTH

    @property
    def endless(self) -> bool:
        """Whether there is no end to wait for, so that a drain does not."""
        return self is CallClass.WATCH or self.health


_HEALTH = frozenset(
    {
        CallClass.TOKENLESS,
        CallClass.TOKENLESS_WATCH,
        CallClass.HEALTH,
        CallClass.HEALTH_WATCH,
    }
)
_HEALTH_SERVICE = "/grpc.health.v1.Health/"

_CONTROL, _WORK = CallClass.CONTROL, CallClass.WORK
_SESSION, _WATCH = CallClass.SESSION, CallClass.WATCH

_RPCS: Mapping[str, Mapping[CallClass, str]] = {
    "ArtifactService": {
        _CONTROL: "GetArtifact ListArtifacts UpdateArtifact DeleteArtifact GetUpload",
        _WORK: "UploadArtifact DownloadArtifact GetThumbnail",
    },
    "DeviceService": {
        _CONTROL: "ListDevices GetDevice SetDefaultDevice GetDeviceMemory GetDeviceStatus",
        _WORK: "GetDeviceCapabilities",
        _SESSION: "OptimizeDevice RestartWorker",
        _WATCH: "WatchDevices",
    },
    "InferenceService": {
        _CONTROL: "GetCapabilities ValidateGeneration GetInferenceStatistics",
        _WORK: "VerifyImage",
        _SESSION: "Generate GenerateBatch PreviewControlImage",
    },
    "MemoryService": {
        _CONTROL: "GetMemoryStatus GetMemoryPressure DeleteAllocation RenewLeases"
        " ListAllocations GetModelMemory GetMemoryAnalytics GetMemoryRecommendations",
        _WORK: "CreateAllocation WriteAllocation ReadAllocation",
        _SESSION: "CopyAllocation TransferAllocation Defragment EvictModels",
        _WATCH: "WatchMemory",
    },
    "ModelService": {
        _CONTROL: "ListModels SearchModels GetModel GetModelComponents GetModelStatus"
        " EvictModel GetCacheStatus SetCacheBudget UpdateModel SetDefaultModel DeleteModel",
        _SESSION: "RefreshModels ValidateModel CacheModel LoadModel UnloadModel"
        " OptimizeModel BenchmarkModel ConvertModel ImportModel",
        _WATCH: "WatchModels",
    },
    "PostprocessingService": {
        _CONTROL: "ListPostprocessors CreatePolicy GetPolicy ListPolicies UpdatePolicy"
        " DeletePolicy GetPostprocessingStatistics",
        _SESSION: "ProcessImage ProcessImages CheckSafety TestPolicy BenchmarkPostprocessor",
    },
    "ProcessingService": {
        _CONTROL: "ListSessions GetSession ListQueue PauseSession ResumeSession CancelSession"
        " CancelSessions UpdateSession DeleteSession ListWorkflows GetWorkflow CreateWorkflow"
        " UpdateWorkflow DeleteWorkflow ValidateWorkflow CreateBatch AddBatchItems GetBatch"
        " ListBatches PauseBatch ResumeBatch CancelBatch RetryBatchItems DeleteBatch",
        _SESSION: "RunWorkflow",
        _WATCH: "WatchSession WatchSessions WatchBatch",
    },
    "SystemService": {_CONTROL: "GetServerInfo"},
}

CALL_CLASSES: Mapping[str, CallClass] = MappingProxyType(
    {
        f"/deviceops.v1.{service}/{name}": call_class
        for service, classes in _RPCS.items()
        for call_class, names in classes.items()
        for name in names.split()
    }
)
"""By full method name: `/package.Service/Method`."""


def classify(method: str, *, known: bool = True) -> CallClass:
    """The class of a method; what stands beside the contract has one as well.

    Whether the caller is known matters for the methods that can be called without a token.
    """
    if method.startswith(_HEALTH_SERVICE):
        if method.endswith("/Watch"):
            return CallClass.HEALTH_WATCH if known else CallClass.TOKENLESS_WATCH
        return CallClass.HEALTH if known else CallClass.TOKENLESS
    if method.startswith("/grpc.reflection."):
        return CallClass.WATCH
    return CALL_CLASSES.get(method, CallClass.WORK)
