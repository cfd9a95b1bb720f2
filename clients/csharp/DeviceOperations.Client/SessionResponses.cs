// Every response that is one event of a session. A test compares this list with the contract.
using DeviceOperations.Client;

namespace DeviceOperations.V1;

public sealed partial class BenchmarkModelResponse : ISessionResponse;

public sealed partial class BenchmarkPostprocessorResponse : ISessionResponse;

public sealed partial class CacheModelResponse : ISessionResponse;

public sealed partial class CheckSafetyResponse : ISessionResponse;

public sealed partial class ConvertModelResponse : ISessionResponse;

public sealed partial class CopyAllocationResponse : ISessionResponse;

public sealed partial class DefragmentResponse : ISessionResponse;

public sealed partial class EvictModelsResponse : ISessionResponse;

public sealed partial class GenerateBatchResponse : ISessionResponse;

public sealed partial class GenerateResponse : ISessionResponse;

public sealed partial class ImportModelResponse : ISessionResponse;

public sealed partial class LoadModelResponse : ISessionResponse;

public sealed partial class OptimizeDeviceResponse : ISessionResponse;

public sealed partial class OptimizeModelResponse : ISessionResponse;

public sealed partial class PreviewControlImageResponse : ISessionResponse;

public sealed partial class ProcessImageResponse : ISessionResponse;

public sealed partial class ProcessImagesResponse : ISessionResponse;

public sealed partial class RefreshModelsResponse : ISessionResponse;

public sealed partial class RestartWorkerResponse : ISessionResponse;

public sealed partial class RunWorkflowResponse : ISessionResponse;

public sealed partial class TestPolicyResponse : ISessionResponse;

public sealed partial class TransferAllocationResponse : ISessionResponse;

public sealed partial class UnloadModelResponse : ISessionResponse;

public sealed partial class ValidateModelResponse : ISessionResponse;

public sealed partial class WatchBatchResponse : ISessionResponse;

public sealed partial class WatchSessionResponse : ISessionResponse;
