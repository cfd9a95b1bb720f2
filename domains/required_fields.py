"""Which fields of requests must be set: without one, a call is refused.

By message, wherever in a request that stands. The comments of these fields end with
"Required."; a test compares the two, both ways. `domains/limits.py` takes them into its table
and `server/interceptors/content.py` refuses what lacks one. A oneof of which one must be set is
no field; its comment or its RPC's says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# fmt: off
REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType({
    # upload.proto
    "UploadHeader": ("upload_id", "size_bytes"),
    "UploadCompletion": ("sha256",),
    # artifact.proto
    "ArtifactUpload": ("upload",),
    "GetUploadRequest": ("upload_id",),
    "DownloadArtifactRequest": ("artifact_id",),
    "GetArtifactRequest": ("artifact_id",),
    "GetThumbnailRequest": ("artifact_id",),
    "UpdateArtifactRequest": ("artifact_id",),
    "DeleteArtifactRequest": ("artifact_id",),
    # common.proto
    "SessionImage": ("session_id",),
    # device.proto
    "SetDefaultDeviceRequest": ("device_id",),
    # conditioning.proto
    "LoraWeight": ("model_id",),
    "ControlNetGuidance": ("model_id",),
    "ImagePrompt": ("model_id", "images"),
    # generation.proto
    "ImageToImage": ("image",),
    "Inpainting": ("image",),
    "Refiner": ("model_id",),
    "MatrixAxis": ("values",),
    # finishing.proto
    "ResizeStep": ("width", "height"),
    "CropStep": ("width", "height"),
    # inference.proto
    "GenerateRequest": ("settings",),
    "GenerationItem": ("item_id",),
    "ValidateGenerationRequest": ("request",),
    "PreviewControlImageRequest": ("image", "preprocessor"),
    "VerifyImageRequest": ("image",),
    # batch.proto
    "BatchItem": ("item_id",),
    "AddBatchItemsRequest": ("batch_id",),
    "GetBatchRequest": ("batch_id",),
    "WatchBatchRequest": ("batch_id",),
    "PauseBatchRequest": ("batch_id",),
    "ResumeBatchRequest": ("batch_id",),
    "CancelBatchRequest": ("batch_id",),
    "RetryBatchItemsRequest": ("batch_id",),
    "DeleteBatchRequest": ("batch_id",),
    # processing.proto
    "GetSessionRequest": ("session_id",),
    "WatchSessionRequest": ("session_id",),
    "PauseSessionRequest": ("session_id",),
    "ResumeSessionRequest": ("session_id",),
    "CancelSessionRequest": ("session_id",),
    "CancelSessionsRequest": ("filter",),
    "UpdateSessionRequest": ("session_id", "update_fields"),
    "DeleteSessionRequest": ("session_id",),
    # workflow.proto
    "WorkflowParameter": ("name", "kind"),
    "WorkflowBinding": ("input",),
    "StepOutput": ("step_id",),
    "StepCondition": ("output",),
    "WorkflowStep": ("step_id",),
    "GetWorkflowRequest": ("workflow_id",),
    "CreateWorkflowRequest": ("workflow",),
    "UpdateWorkflowRequest": ("workflow", "expected_version"),
    "DeleteWorkflowRequest": ("workflow_id",),
    # memory.proto
    "CreateAllocationRequest": ("place", "size_bytes"),
    "DeleteAllocationRequest": ("allocation_id",),
    "AllocationUpload": ("allocation_id", "upload"),
    "ReadAllocationRequest": ("allocation_id",),
    "CopyAllocationRequest": ("source_allocation_id", "target_allocation_id"),
    "TransferAllocationRequest": ("allocation_id", "place"),
    "EvictModelsRequest": ("place", "target_free_bytes"),
    # model_info.proto
    "ModelInfo": ("model_id",),
    # model_cache.proto
    "CacheModelRequest": ("model_id",),
    "EvictModelRequest": ("model_id",),
    # model.proto
    "SearchModelsRequest": ("query",),
    "UnloadModelRequest": ("model_id",),
    "UpdateModelRequest": ("model", "update_fields"),
    "SetDefaultModelRequest": ("model_id",),
    "DeleteModelRequest": ("model_id",),
    # model_task.proto
    "ValidateModelRequest": ("model_id",),
    "OptimizeModelRequest": ("model_id", "target_model_id"),
    "BenchmarkModelRequest": ("model_id",),
    "ConvertModelRequest": ("model_id", "target_model_id"),
    "ModelFile": ("relative_path", "artifact_id"),
    "ImportModelRequest": ("model_id", "format", "files"),
    # postprocessing.proto
    "ProcessImageRequest": ("image",),
    "ProcessingItem": ("item_id", "image"),
    "ProcessImagesRequest": ("items",),
    "BenchmarkPostprocessorRequest": ("postprocessor_id",),
    # safety.proto
    "SafetyRule": ("category",),
    "CreatePolicyRequest": ("policy",),
    "GetPolicyRequest": ("policy_id",),
    "UpdatePolicyRequest": ("policy", "expected_version"),
    "DeletePolicyRequest": ("policy_id",),
})
# fmt: on
