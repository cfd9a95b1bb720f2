using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

/// <summary>What is tried again, and what is the caller's to know.</summary>
public sealed class LostConnectionTests
{
    private const double Soon = 1;

    [Theory]
    [InlineData(StatusCode.Unavailable, ErrorReason.ShuttingDown, null, true)]
    [InlineData(StatusCode.Unavailable, ErrorReason.StorageUnavailable, Soon, true)]
    [InlineData(StatusCode.Unavailable, ErrorReason.DeviceLost, null, false)]
    [InlineData(StatusCode.ResourceExhausted, ErrorReason.SlowReader, Soon, true)]
    [InlineData(StatusCode.ResourceExhausted, ErrorReason.TooManyStreams, Soon, true)]
    [InlineData(StatusCode.ResourceExhausted, ErrorReason.StorageQuotaExceeded, Soon, false)]
    [InlineData(StatusCode.NotFound, ErrorReason.SessionNotFound, null, false)]
    [InlineData(StatusCode.Unauthenticated, ErrorReason.TokenInvalid, null, false)]
    public void WhereTheServerSaidWhyItsWordCounts(
        StatusCode code, ErrorReason reason, double? retrySeconds, bool again)
    {
        TimeSpan? delay = retrySeconds is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        var error = new ServerError(
            code, reason, reason.ToString(), "", new Dictionary<string, string>(), [], delay, null);

        Assert.Equal(again, LostConnection.Is(new ServerErrorException(error)));
    }

    [Theory]
    [InlineData(StatusCode.Unavailable, true)]
    [InlineData(StatusCode.Internal, true)]
    [InlineData(StatusCode.DeadlineExceeded, false)]
    [InlineData(StatusCode.PermissionDenied, false)]
    public void WhereNobodySaidWhyTheConnectionIsToBlameOrTheCaller(StatusCode code, bool again) =>
        Assert.Equal(again, LostConnection.Is(new RpcException(new Status(code, ""))));
}
