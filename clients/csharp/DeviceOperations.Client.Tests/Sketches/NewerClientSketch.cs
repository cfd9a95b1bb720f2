using DeviceOperations.V1;
using Google.Protobuf;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class NewerClientSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task AFieldOfTomorrowIsRefusedByAServerOfToday()
    {
        var shop = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        GenerateRequest request = Orchestrator.Picture("tomorrow");

        // What a client does that was compiled against a later contract: GenerationSettings has a
        // field 900 there. C# keeps what it cannot read, and sends it on.
        byte[] tomorrow = [.. request.Settings.ToByteArray(), .. Varint(900 << 3), .. Varint(1)];
        request.Settings = GenerationSettings.Parser.ParseFrom(tomorrow);

        var refused = await Assert.ThrowsAsync<ServerErrorException>(() => shop.DrawAsync(request));

        // Nothing that is set is ignored: better no picture than one without what was asked for.
        Assert.Equal(StatusCode.InvalidArgument, refused.StatusCode);
        Assert.Equal(ErrorReason.UnknownField, refused.Error.Reason);
        var violation = Assert.Single(refused.Error.Violations);
        Assert.StartsWith("settings", violation.Field, StringComparison.Ordinal);
        Assert.Contains("900", violation.Field + violation.Description, StringComparison.Ordinal);
        Assert.Empty(await shop.ListAsync("tomorrow").ToListAsync());
    }

    [Fact]
    public async Task AClientAsksBeforehandWhatTheServerCanDo()
    {
        GetServerInfoResponse info = await new SystemService.SystemServiceClient(server.Channel)
            .GetServerInfoAsync(new GetServerInfoRequest(), ServerUnderTest.Authorized());

        // A feature is offered where it is known and built; a name that is missing is one of tomorrow.
        bool CanDo(string name) => info.Features.Any(feature => feature.Name == name && feature.Built);

        Assert.True(CanDo("InferenceService.Generate"));
        Assert.False(CanDo("InferenceService.GenerateVideo"));
        Assert.Equal(ClientRole.Admin, info.ClientRole);
    }

    private static byte[] Varint(int value)
    {
        using var bytes = new MemoryStream();
        using (var output = new CodedOutputStream(bytes, leaveOpen: true))
        {
            output.WriteInt32(value);
        }

        return bytes.ToArray();
    }
}
