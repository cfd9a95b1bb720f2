using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class AuthenticationTests(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task AWrongTokenIsRefusedWithItsReason()
    {
        var error = await RefusalOf(ServerUnderTest.WithToken("not-a-token-of-this-server"));

        Assert.Equal(ErrorReason.TokenInvalid, error.Reason);
        Assert.Equal("TOKEN_INVALID", error.ReasonName);
        Assert.NotEmpty(error.Message);
    }

    [Fact]
    public async Task ACallWithoutATokenIsRefusedWithItsReason()
    {
        var error = await RefusalOf(headers: null);

        Assert.Equal(ErrorReason.TokenMissing, error.Reason);
    }

    private async Task<ServerError> RefusalOf(Metadata? headers)
    {
        var devices = new DeviceService.DeviceServiceClient(server.Channel);

        var refusal = await Assert.ThrowsAsync<RpcException>(async () =>
            await devices.ListDevicesAsync(
                new ListDevicesRequest(), headers, deadline: DateTime.UtcNow.AddSeconds(30)));

        Assert.Equal(StatusCode.Unauthenticated, refusal.StatusCode);
        return Assert.IsType<ServerError>(refusal.GetServerError());
    }
}
