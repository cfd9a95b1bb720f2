"""The least role that each RPC needs.

What only looks needs READ. What works, and what makes, controls or deletes something of the
caller's own, needs RUN: whose a thing is, the domains look at. What changes the server for
everybody needs ADMIN. A method that has no row is for ADMIN.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from domains.clients import Role

__all__ = ["LEAST_ROLES", "Role", "least_role"]

_READ, _RUN, _ADMIN = Role.READ, Role.RUN, Role.ADMIN

_RPCS: Mapping[str, Mapping[Role, str]] = {
    "ArtifactService": {
        _READ: "GetArtifact ListArtifacts DownloadArtifact GetThumbnail GetUpload",
        _RUN: "UploadArtifact UpdateArtifact DeleteArtifact",
    },
    "DeviceService": {
        # Capabilities are measured once for a driver and kept, however often they are read.
        _READ: "ListDevices GetDevice GetDeviceCapabilities GetDeviceMemory GetDeviceStatus"
        " WatchDevices",
        # The default is everybody's, and so are a device's clean caches and its worker.
        _ADMIN: "SetDefaultDevice OptimizeDevice RestartWorker",
    },
    "InferenceService": {
        _READ: "GetCapabilities ValidateGeneration VerifyImage GetInferenceStatistics",
        _RUN: "Generate GenerateBatch PreviewControlImage",
    },
    "MemoryService": {
        _READ: "GetMemoryStatus WatchMemory GetMemoryPressure ListAllocations ReadAllocation"
        " GetModelMemory GetMemoryAnalytics GetMemoryRecommendations",
        _RUN: "CreateAllocation DeleteAllocation RenewLeases WriteAllocation CopyAllocation"
        " TransferAllocation",
        # Both take from everybody's memory: caches, and models that others may want next.
        _ADMIN: "Defragment EvictModels",
    },
    "ModelService": {
        _READ: "ListModels SearchModels GetModel WatchModels GetModelComponents GetCacheStatus"
        " GetModelStatus",
        # A generation loads and caches its model as well. Refreshing shows what the disk has,
        # and validating reads gigabytes of it: work of the caller's, which changes nothing.
        _RUN: "RefreshModels ValidateModel CacheModel LoadModel BenchmarkModel",
        # What is unloaded or evicted is gone for the others, and the catalogue is everybody's.
        _ADMIN: "EvictModel SetCacheBudget UnloadModel OptimizeModel ConvertModel"
        " ImportModel UpdateModel SetDefaultModel DeleteModel",
    },
    "PostprocessingService": {
        _READ: "ListPostprocessors GetPolicy ListPolicies GetPostprocessingStatistics",
        _RUN: "ProcessImage ProcessImages BenchmarkPostprocessor CheckSafety TestPolicy"
        " CreatePolicy UpdatePolicy DeletePolicy",
    },
    "ProcessingService": {
        _READ: "ListSessions GetSession WatchSession WatchSessions ListQueue ListWorkflows"
        " GetWorkflow ValidateWorkflow GetBatch ListBatches WatchBatch",
        _RUN: "PauseSession ResumeSession CancelSession CancelSessions UpdateSession"
        " DeleteSession CreateWorkflow UpdateWorkflow DeleteWorkflow RunWorkflow CreateBatch"
        " AddBatchItems PauseBatch ResumeBatch CancelBatch RetryBatchItems DeleteBatch",
    },
    "SystemService": {_READ: "GetServerInfo"},
}
# Health passes without a token: supervisors and load balancers ask it, and it says nothing but
# "serving".
_BESIDE: Mapping[str, Role | None] = {
    "/grpc.health.v1.Health/Check": None,
    "/grpc.health.v1.Health/List": None,
    "/grpc.health.v1.Health/Watch": None,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _READ,
}

LEAST_ROLES: Mapping[str, Role | None] = MappingProxyType(
    {
        f"/deviceops.v1.{service}/{name}": role
        for service, roles in _RPCS.items()
        for role, names in roles.items()
        for name in names.split()
    }
    | dict(_BESIDE)
)
"""By full method name, `/package.Service/Method`; None needs no token either."""


def least_role(method: str) -> Role | None:
    """The least role for a method; None where a caller need not be known."""
    return LEAST_ROLES.get(method, Role.ADMIN)
