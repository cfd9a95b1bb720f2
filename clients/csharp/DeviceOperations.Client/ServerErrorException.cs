using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>
/// A call or a session failed and the server said why. It is an <see cref="RpcException"/>, so
/// that one <c>catch</c> is enough where the reason does not matter.
/// </summary>
/// <param name="error">What the server said.</param>
/// <param name="cause">The failed call; null where the failure came in an event.</param>
public sealed class ServerErrorException(ServerError error, RpcException? cause = null) : RpcException(
    new Status(error.StatusCode, error.Message, cause),
    cause?.Trailers ?? [],
    $"{error.ReasonName}: {error.Message}")
{
    /// <summary>What the server said.</summary>
    public ServerError Error { get; } = error;
}
