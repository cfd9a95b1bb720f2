"""The one table of the contract's limits: ranges, defaults, largest sizes, required fields.

Every limit that a comment in the protos states in a set phrase has its entry here under
"Message.field", and validation, capabilities and documentation read it from here; a test
compares the two, both ways. `domains/checks.py` applies the entries to values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from domains.required_fields import REQUIRED


@dataclass(frozen=True)
class Limit:
    """What one field of one message accepts; None where there is no such limit.

    Args:
        field: Message and field (`GenerationSettings.steps`).
        minimum: Smallest accepted number, or duration in seconds.
        maximum: Largest accepted number, or duration in seconds.
        multiple_of: Accepted numbers are multiples of this.
        default: What an unset field means; None when unset means something else.
        max_elements: Most elements of a list or map.
        max_characters: Most Unicode characters of a text, of each text in a list, or of
            each value in a map.
        max_bytes: Most bytes of a bytes field.
        unit: Unit of minimum, maximum and default; None for counts and shares.
        required: Whether a request without it is refused; `domains/required_fields.py` says
            it of every field.
    """

    field: str
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    default: float | None = None
    max_elements: int | None = None
    max_characters: int | None = None
    max_bytes: int | None = None
    unit: str | None = None
    required: bool = False


def _by_field(*limits: Limit) -> Mapping[str, Limit]:
    table = {limit.field: limit for limit in limits}
    if len(table) != len(limits):
        raise ValueError("a field has two limits")
    for field in (f"{message}.{name}" for message in REQUIRED for name in REQUIRED[message]):
        table[field] = replace(table.get(field, Limit(field)), required=True)
    return MappingProxyType(table)


# fmt: off
LIMITS: Mapping[str, Limit] = _by_field(
    # upload.proto
    Limit("UploadHeader.offset_bytes", default=0, unit="bytes"),
    Limit("UploadHeader.size_bytes", minimum=1, maximum=68719476736, unit="bytes"),
    *(
        Limit(f"{call}Request.page_size", minimum=0, maximum=1000, default=100)
        for call in (
            "ListArtifacts", "GetBatch", "ListBatches", "ListAllocations", "ListModels",
            "SearchModels", "ListPolicies", "ListWorkflows", "ListSessions", "ListQueue",
        )
    ),
    # artifact.proto
    *(
        Limit(f"{message}.labels", max_elements=16, max_characters=128)
        for message in ("Artifact", "ArtifactUpload", "ListArtifactsRequest",
                        "UpdateArtifactRequest", "StoreWork")
    ),
    Limit("UploadArtifactRequest.data", max_bytes=1048576),
    Limit("DownloadArtifactRequest.offset_bytes", default=0, unit="bytes"),
    Limit("DownloadArtifactResponse.data", max_bytes=1048576),
    Limit("GetThumbnailRequest.edge_pixels", minimum=32, maximum=1024, default=256,
          unit="pixels"),
    Limit("GetThumbnailResponse.data", max_bytes=3145728),
    Limit("ListArtifactsRequest.media_type_prefix", max_characters=128),
    Limit("ListArtifactsRequest.artifact_ids", max_elements=1000),
    *(
        Limit(f"{message}.retention", minimum=60, maximum=31536000, unit="seconds") for message
        in ("ArtifactUpload", "UpdateArtifactRequest", "OutputSettings", "StoreWork")
    ),
    Limit("UpdateArtifactRequest.removed_labels", max_elements=16, max_characters=127),
    # common.proto
    Limit("ByteFigure.source", max_characters=128),
    Limit("InputImage.inline", max_bytes=3145728),
    Limit("SessionImage.image_index", minimum=0, maximum=1000000),
    Limit("OutputSettings.quality", minimum=1, maximum=100, default=95),
    # device_info.proto
    Limit("DeviceChoice.device_ids", max_elements=64),
    Limit("DeviceChoice.kinds", max_elements=16),
    # errors.proto
    Limit("Failure.metadata", max_elements=64),
    Limit("Failure.violations", max_elements=20),
    # finishing.proto
    Limit("UpscaleStep.factor", minimum=1, maximum=8, default=4),
    Limit("UpscaleStep.tile_pixels", minimum=0, maximum=2048, multiple_of=8, default=0,
          unit="pixels"),
    Limit("UpscaleStep.tile_overlap_pixels", minimum=0, maximum=256, default=16, unit="pixels"),
    Limit("FaceRestoreStep.strength", minimum=0, maximum=1, default=1),
    Limit("FaceRestoreStep.least_confidence", minimum=0, maximum=1, default=0.5),
    Limit("SharpenStep.amount", minimum=0, maximum=5, default=1),
    Limit("SharpenStep.radius_pixels", minimum=0.1, maximum=50, default=1, unit="pixels"),
    Limit("SharpenStep.threshold", minimum=0, maximum=255, default=0),
    Limit("DenoiseStep.strength", minimum=0, maximum=1, default=0.5),
    Limit("ColorStep.brightness", minimum=0, maximum=4, default=1),
    Limit("ColorStep.contrast", minimum=0, maximum=4, default=1),
    Limit("ColorStep.saturation", minimum=0, maximum=4, default=1),
    Limit("ColorStep.gamma", minimum=0.1, maximum=10, default=1),
    Limit("ColorStep.exposure_stops", minimum=-5, maximum=5, default=0),
    Limit("ColorStep.temperature", minimum=-100, maximum=100, default=0),
    Limit("ColorStep.tint", minimum=-100, maximum=100, default=0),
    *(
        Limit(f"{step}.{edge}", minimum=1, maximum=16384, unit="pixels")
        for step in ("ResizeStep", "CropStep") for edge in ("width", "height")
    ),
    Limit("WatermarkStep.text", max_characters=200),
    Limit("WatermarkStep.opacity", minimum=0, maximum=1, default=0.5),
    Limit("WatermarkStep.scale", minimum=0.01, maximum=1, default=0.05),
    Limit("WatermarkStep.margin_pixels", minimum=0, maximum=1024, default=16, unit="pixels"),
    Limit("RotateStep.degrees", minimum=-360, maximum=360, default=90),
    Limit("RotateStep.fill", max_characters=9),
    *(
        Limit(f"PadStep.{side}", minimum=0, maximum=16384, default=0, unit="pixels")
        for side in ("left", "top", "right", "bottom")
    ),
    Limit("PadStep.fill", max_characters=9),
    Limit("LutStep.cube", max_bytes=1048576),
    Limit("LutStep.strength", minimum=0, maximum=1, default=1),
    Limit("DeblurStep.radius_pixels", minimum=0.1, maximum=10, default=1, unit="pixels"),
    Limit("DeblurStep.iterations", minimum=1, maximum=100, default=10),
    # conditioning.proto
    Limit("LoraWeight.weight", minimum=-2, maximum=2, default=1),
    Limit("LoraWeight.text_encoder_weight", minimum=-2, maximum=2),
    Limit("CannyOptions.low", minimum=0, maximum=255, default=100),
    Limit("CannyOptions.high", minimum=0, maximum=255, default=200),
    Limit("SoftEdgeOptions.radius_pixels", minimum=0.1, maximum=16, default=1, unit="pixels"),
    Limit("LineArtOptions.threshold", minimum=0, maximum=255, default=16),
    Limit("ScribbleOptions.stroke_pixels", minimum=1, maximum=32, default=6, unit="pixels"),
    Limit("TileOptions.factor", minimum=1, maximum=16, default=4),
    Limit("FaceMaskOptions.padding", minimum=0, maximum=2, default=0.3),
    Limit("FaceMaskOptions.blur_pixels", minimum=0, maximum=64, default=0, unit="pixels"),
    Limit("FaceMaskOptions.least_confidence", minimum=0, maximum=1, default=0.5),
    Limit("ControlPreprocessor.resolution_pixels", minimum=0, maximum=2048, default=0,
          unit="pixels"),
    Limit("ControlNetGuidance.conditioning_scale", minimum=0, maximum=2, default=1),
    Limit("ControlNetGuidance.start", minimum=0, maximum=1, default=0),
    Limit("ControlNetGuidance.end", minimum=0, maximum=1, default=1),
    Limit("ControlNetGuidance.images", max_elements=9),
    Limit("ImagePrompt.images", max_elements=8),
    Limit("ImagePrompt.scale", minimum=0, maximum=2, default=1),
    Limit("ImagePrompt.start", minimum=0, maximum=1, default=0),
    Limit("ImagePrompt.end", minimum=0, maximum=1, default=1),
    Limit("RegionBox.left", minimum=0, maximum=1),
    Limit("RegionBox.top", minimum=0, maximum=1),
    Limit("RegionBox.width", minimum=0, maximum=1),
    Limit("RegionBox.height", minimum=0, maximum=1),
    Limit("RegionalPrompt.prompt", max_characters=2000),
    Limit("RegionalPrompt.negative_prompt", max_characters=2000),
    Limit("RegionalPrompt.weight", minimum=0, maximum=1, default=0.5),
    # sampling.proto
    Limit("SolverOptions.order", minimum=1, maximum=3),
    Limit("ChurnOptions.churn", minimum=0, maximum=100, default=0),
    Limit("ChurnOptions.least_sigma", minimum=0, maximum=1000, default=0),
    Limit("ChurnOptions.greatest_sigma", minimum=0, maximum=1000),
    Limit("ChurnOptions.noise", minimum=0, maximum=2, default=1),
    Limit("DdimOptions.eta", minimum=0, maximum=1, default=0),
    Limit("AncestralOptions.eta", minimum=0, maximum=1),
    Limit("AncestralOptions.noise", minimum=0, maximum=2, default=1),
    Limit("LinearMultistepOptions.order", minimum=1, maximum=4, default=4),
    Limit("SchedulerSettings.sigmas", minimum=0, maximum=1000, max_elements=150),
    Limit("GuidanceSettings.scale", minimum=0, maximum=30, default=7.5),
    Limit("GuidanceSettings.rescale", minimum=0, maximum=1, default=0),
    Limit("GuidanceSettings.start", minimum=0, maximum=1, default=0),
    Limit("GuidanceSettings.end", minimum=0, maximum=1, default=1),
    # generation.proto
    Limit("ImageToImage.strength", minimum=0, maximum=1, default=0.8),
    *(
        Limit(f"OutpaintingMargins.{edge}_pixels", minimum=0, maximum=1024, default=0,
              unit="pixels")
        for edge in ("left", "top", "right", "bottom")
    ),
    Limit("Inpainting.strength", minimum=0, maximum=1, default=0.8),
    Limit("Inpainting.mask_blur_pixels", minimum=0, maximum=64, default=4, unit="pixels"),
    Limit("Inpainting.crop_margin_pixels", minimum=0, maximum=512, unit="pixels"),
    Limit("Refiner.switch_at", minimum=0, maximum=1, default=0.8),
    Limit("Refiner.steps", minimum=1, maximum=150),
    Limit("Refiner.aesthetic_score", minimum=1, maximum=10, default=6),
    Limit("Refiner.negative_aesthetic_score", minimum=1, maximum=10, default=2.5),
    Limit("ConditioningSize.width", minimum=0, maximum=16384, unit="pixels"),
    Limit("ConditioningSize.height", minimum=0, maximum=16384, unit="pixels"),
    Limit("ConditioningPoint.left", minimum=0, maximum=16384, unit="pixels"),
    Limit("ConditioningPoint.top", minimum=0, maximum=16384, unit="pixels"),
    Limit("SdxlSettings.prompt_2", max_characters=10000),
    Limit("SdxlSettings.negative_prompt_2", max_characters=10000),
    Limit("SecondPass.scale", minimum=1, maximum=4, default=2),
    Limit("SecondPass.strength", minimum=0, maximum=1, default=0.5),
    Limit("SecondPass.steps", minimum=1, maximum=150),
    Limit("SeedVariation.seed", minimum=0, maximum=4294967295),
    Limit("SeedVariation.strength", minimum=0, maximum=1, default=0.1),
    Limit("Precision.data_types", max_elements=8),
    Limit("GenerationSettings.prompt", max_characters=10000),
    Limit("GenerationSettings.negative_prompt", max_characters=10000),
    Limit("GenerationSettings.loras", max_elements=64),
    Limit("GenerationSettings.control_nets", max_elements=16),
    Limit("GenerationSettings.embedding_model_ids", max_elements=64),
    Limit("GenerationSettings.image_prompts", max_elements=8),
    Limit("GenerationSettings.regions", max_elements=16),
    Limit("GenerationSettings.width", minimum=256, maximum=2048, multiple_of=8, unit="pixels"),
    Limit("GenerationSettings.height", minimum=256, maximum=2048, multiple_of=8, unit="pixels"),
    Limit("GenerationSettings.steps", minimum=1, maximum=150, default=25),
    Limit("GenerationSettings.clip_skip", minimum=0, maximum=8, default=0),
    Limit("GenerationSettings.image_count", minimum=1, maximum=9, default=1),
    Limit("GenerationSettings.seed", minimum=0, maximum=4294967295),
    Limit("GenerationSettings.seeds", minimum=0, maximum=4294967295, max_elements=9),
    Limit("GenerationOverlay.cleared_fields", max_elements=32),
    Limit("GenerationMatrix.axes", max_elements=6),
    Limit("GenerationMatrix.runs", minimum=1, maximum=64, default=1),
    Limit("MatrixAxis.values", max_elements=64),
    # model_info.proto
    Limit("ModelInfo.name", max_characters=256),
    Limit("ModelInfo.description", max_characters=1024),
    Limit("ModelInfo.license", max_characters=64),
    Limit("ModelInfo.tags", max_elements=64, max_characters=64),
    Limit("ModelInfo.trigger_words", max_elements=64, max_characters=64),
    Limit("ModelInfo.header_metadata", max_elements=128),
    Limit("ModelInfo.scheduler_class", max_characters=512),
    Limit("ModelInfo.aliases", max_elements=16),
    Limit("ModelInfo.lora_alpha", minimum=0, maximum=1000000),
    Limit("ModelInfo.kind", max_characters=64),
    Limit("ModelInfo.remarks", max_elements=16, max_characters=512),
    Limit("RefreshReport.problems", max_elements=100),
    Limit("ModelValidationReport.findings", max_elements=100),
    # session.proto
    Limit("WorkOptions.queue_timeout", minimum=0.001, maximum=604800, unit="seconds"),
    Limit("WorkOptions.run_timeout", minimum=0.001, maximum=604800, default=86400,
          unit="seconds"),
    Limit("WorkOptions.tags", max_elements=32, max_characters=64),
    Limit("WorkOptions.metadata", max_elements=32, max_characters=1024),
    Limit("WorkOptions.retention", minimum=60, maximum=2592000, unit="seconds"),
    Limit("PreviewSettings.every_steps", minimum=0, maximum=150, default=0),
    Limit("PreviewSettings.max_edge_pixels", minimum=64, maximum=512, default=256,
          unit="pixels"),
    Limit("DeliveryOptions.event_kinds", max_elements=32),
    Limit("DeliveryOptions.step_interval", minimum=0, maximum=60, default=0, unit="seconds"),
    Limit("RetrySettings.max_attempts", minimum=1, maximum=10, default=1),
    Limit("RetrySettings.backoff", minimum=0, maximum=3600, default=1, unit="seconds"),
    # event.proto
    Limit("Preview.data", max_bytes=262144),
    Limit("ImageChunk.data", max_bytes=1048576),
    # batch.proto
    Limit("BatchItem.item_id", max_characters=128),
    Limit("BatchItemStatus.images", max_elements=9),
    Limit("CreateBatchRequest.items", max_elements=1000),
    Limit("CreateBatchRequest.postprocessing", max_elements=16),
    Limit("CreateBatchRequest.item_run_timeout", minimum=0.001, maximum=604800, default=86400,
          unit="seconds"),
    Limit("CreateBatchRequest.max_failures", minimum=1, maximum=1000000),
    Limit("CreateBatchRequest.max_parallel", minimum=1, maximum=64),
    Limit("AddBatchItemsRequest.items", max_elements=1000),
    Limit("GetBatchRequest.item_states", max_elements=16),
    Limit("ListBatchesRequest.states", max_elements=16),
    Limit("ListBatchesRequest.tags", max_elements=32, max_characters=64),
    Limit("RetryBatchItemsRequest.item_ids", max_elements=1000),
    # inference.proto
    Limit("GenerateRequest.postprocessing", max_elements=16),
    Limit("GenerationItem.item_id", max_characters=128),
    Limit("GenerateBatchRequest.items", max_elements=64),
    Limit("GenerateBatchRequest.postprocessing", max_elements=16),
    Limit("ValidateGenerationResponse.violations", max_elements=20),
    Limit("PreviewControlImageRequest.width", minimum=256, maximum=2048, multiple_of=8,
          unit="pixels"),
    Limit("PreviewControlImageRequest.height", minimum=256, maximum=2048, multiple_of=8,
          unit="pixels"),
    Limit("VerifyImageResponse.parameters", max_characters=65536),
    # memory_history.proto
    Limit("GetMemoryAnalyticsRequest.window", minimum=1, maximum=2592000, default=3600,
          unit="seconds"),
    Limit("GetMemoryAnalyticsRequest.points", minimum=1, maximum=1000, default=60),
    # memory.proto
    Limit("WatchMemoryRequest.interval", minimum=0.1, maximum=3600, default=1, unit="seconds"),
    *(
        Limit(field, minimum=1, maximum=1099511627776, unit="bytes")
        for field in ("CreateAllocationRequest.size_bytes", "AllocateMemoryWork.size_bytes",
                      *(f"EvictModels{of}.target_free_bytes" for of in ("Request", "Work")))
    ),
    *(
        Limit(f"{message}.lease", minimum=1, maximum=86400, default=60, unit="seconds")
        for message in ("CreateAllocationRequest", "RenewLeasesRequest", "AllocateMemoryWork")
    ),
    Limit("CreateAllocationRequest.label", max_characters=128),
    Limit("RenewLeasesRequest.allocation_ids", max_elements=1000),
    Limit("RenewLeasesResponse.allocations", max_elements=1000),
    Limit("AllocationUpload.target_offset_bytes", default=0, unit="bytes"),
    Limit("WriteAllocationRequest.data", max_bytes=1048576),
    Limit("ReadAllocationRequest.offset_bytes", default=0, unit="bytes"),
    Limit("ReadAllocationResponse.data", max_bytes=1048576),
    Limit("CopyAllocationRequest.source_offset_bytes", default=0, unit="bytes"),
    Limit("CopyAllocationRequest.target_offset_bytes", default=0, unit="bytes"),
    # model_task.proto
    Limit("BenchmarkModelRequest.width", minimum=256, maximum=2048, multiple_of=8,
          unit="pixels"),
    Limit("BenchmarkModelRequest.height", minimum=256, maximum=2048, multiple_of=8,
          unit="pixels"),
    Limit("BenchmarkModelRequest.steps", minimum=1, maximum=1000, default=20),
    Limit("ModelFile.relative_path", max_characters=256),
    Limit("ImportModelRequest.files", max_elements=256),
    # model_cache.proto
    Limit("SetCacheBudgetRequest.budget_bytes", minimum=0, maximum=1125899906842624,
          unit="bytes"),
    # model.proto
    Limit("ListModelsRequest.tags", max_elements=32, max_characters=64),
    Limit("SearchModelsRequest.query", max_characters=256),
    Limit("SearchModelsRequest.tags", max_elements=32, max_characters=64),
    *(
        Limit(f"GetModelComponentsResponse.compatible_{part}_model_ids", max_elements=256)
        for part in ("vae", "lora", "control_net", "refiner")
    ),
    Limit("GetModelComponentsResponse.compatible_image_prompt_adapter_ids", max_elements=256),
    Limit("LoadModelRequest.data_types", max_elements=8),
    Limit("UnloadModelRequest.device_ids", max_elements=64),
    Limit("UpdateModelRequest.update_fields", max_elements=4),
    # safety.proto
    Limit("CheckSafetyRequest.images", max_elements=16),
    Limit("CheckSafetyRequest.prompts", max_elements=16, max_characters=10000),
    Limit("SafetyRule.category", max_characters=64),
    Limit("SafetyRule.threshold", minimum=0, maximum=1, default=0.5),
    Limit("SafetyPolicy.description", max_characters=1024),
    Limit("SafetyPolicy.rules", max_elements=32),
    Limit("SafetyPolicy.postprocessor_ids", max_elements=8),
    Limit("SafetyPolicy.prompt_words", max_elements=1000, max_characters=64),
    Limit("TestPolicyRequest.images", max_elements=16),
    Limit("TestPolicyRequest.prompts", max_elements=8, max_characters=10000),
    Limit("TestPolicyRequest.scores", max_elements=32),
    # postprocessing.proto
    Limit("Postprocessor.benchmarks", max_elements=8),
    Limit("ProcessImageRequest.steps", max_elements=16),
    Limit("ProcessingItem.item_id", max_characters=128),
    Limit("ProcessImagesRequest.items", max_elements=256),
    Limit("ProcessImagesRequest.steps", max_elements=16),
    Limit("BenchmarkPostprocessorRequest.input_pixels", minimum=64, maximum=4096, default=512,
          unit="pixels"),
    Limit("BenchmarkPostprocessorRequest.runs", minimum=1, maximum=100, default=5),
    # workflow.proto
    Limit("WorkflowValue.text", max_characters=10000),
    Limit("WorkflowValue.choice", max_characters=64),
    Limit("WorkflowImages.images", max_elements=64),
    Limit("WorkflowParameter.name", max_characters=127),
    Limit("WorkflowParameter.description", max_characters=1024),
    Limit("WorkflowParameter.choices", max_elements=64, max_characters=64),
    Limit("WorkflowBinding.input", max_characters=256),
    Limit("WorkflowBinding.parameter", max_characters=127),
    Limit("PostprocessWork.steps", max_elements=16),
    Limit("BatchWork.items", max_elements=256),
    Limit("ControlImageWork.width", minimum=256, maximum=2048, multiple_of=8, unit="pixels"),
    Limit("ControlImageWork.height", minimum=256, maximum=2048, multiple_of=8, unit="pixels"),
    Limit("RunWorkflowWork.arguments", max_elements=64),
    *(Limit(f"{work}.images", max_elements=64) for work in ("VerifyWork", "StoreWork")),
    Limit("WorkflowStep.bindings", max_elements=32),
    Limit("WorkflowStep.after_step_ids", max_elements=64),
    Limit("WorkflowStep.for_each_input", max_characters=256),
    Limit("WorkflowStep.run_timeout", minimum=0.001, maximum=604800, default=86400,
          unit="seconds"),
    Limit("Workflow.description", max_characters=1024),
    Limit("Workflow.parameters", max_elements=64),
    Limit("Workflow.steps", max_elements=64),
    Limit("Workflow.result_step_ids", max_elements=64),
    Limit("CreateWorkflowRequest.workflow", max_bytes=3670016),
    Limit("UpdateWorkflowRequest.workflow", max_bytes=3670016),
    Limit("ValidateWorkflowRequest.arguments", max_elements=64),
    Limit("ValidateWorkflowResponse.violations", max_elements=20),
    Limit("WorkflowNeeds.model_ids", max_elements=64),
    Limit("RunWorkflowRequest.arguments", max_elements=64),
    # processing.proto
    Limit("SessionFilter.kinds", max_elements=16),
    Limit("SessionFilter.states", max_elements=16),
    Limit("SessionFilter.tags", max_elements=32, max_characters=64),
    *(
        Limit(f"{call}Request.reason_text", max_characters=256) for call
        in ("PauseBatch", "CancelBatch", "PauseSession", "CancelSession", "CancelSessions")
    ),
    Limit("UpdateSessionRequest.update_fields", max_elements=3),
)
# fmt: on


def default_of(field: str) -> float:
    """What an absent field means.

    Raises:
        LookupError: It has no default.
    """
    default = LIMITS[field].default
    if default is None:
        raise LookupError(f"{field} has no default")
    return default
