using DeviceOperations.V1;
using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>Which failures a new connection may mend, and when to try it.</summary>
internal static class LostConnection
{
    /// <summary>
    /// Where the server said why, its word counts: it ends or is full, its reader was too slow,
    /// or it is unavailable for a time that it names.
    /// </summary>
    public static bool Is(RpcException failure) => failure.GetServerError() is { } error
        ? error.Reason is ErrorReason.ShuttingDown or ErrorReason.SlowReader or ErrorReason.TooManyStreams
            || (error.StatusCode == StatusCode.Unavailable && error.RetryDelay is not null)
        : failure.StatusCode
            is StatusCode.Unavailable
            or StatusCode.Internal
            or StatusCode.Unknown
            or StatusCode.Cancelled;

    /// <summary>Waits before a try; the first one is 0.</summary>
    public static Task WaitAsync(
        int attempt, RpcException lost, ResumeOptions resume, CancellationToken cancellation)
    {
        TimeSpan wished = lost.GetServerError()?.RetryDelay ?? TimeSpan.Zero;
        double seconds = Math.Min(
            resume.FirstDelay.TotalSeconds * Math.Pow(2, attempt), resume.MaxDelay.TotalSeconds);
        TimeSpan own = TimeSpan.FromSeconds(seconds);
        return Task.Delay(wished > own ? wished : own, cancellation);
    }
}
