using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class FreeCardSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task AJobGoesToWhicheverCardIsFreeAndTheAnswerSaysWhichAndWhy()
    {
        var shop = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        GenerateRequest request = Orchestrator.Picture("free-card");

        // Nothing said: the ready device that will be done first.
        (_, SessionCompleted anywhere) = await shop.DrawAsync(request);

        Assert.NotEqual(PlacementReason.Unspecified, anywhere.Placement.Reason);
        Assert.NotEqual(PlacementReason.Named, anywhere.Placement.Reason);
        Assert.Contains(anywhere.Placement.DeviceId, anywhere.Placement.CandidateDeviceIds);

        // One of these kinds. A form can ask beforehand where it would run, and when it would be done.
        request.Options.RequestId = Guid.NewGuid().ToString();
        request.Placement = new DevicePlacement
        {
            Any = new DeviceChoice { Kinds = { DeviceKind.Cpu, DeviceKind.Cuda } },
        };
        ValidateGenerationResponse check = await shop.Inference.ValidateGenerationAsync(
            new ValidateGenerationRequest { Request = request }, shop.Headers);
        (_, SessionCompleted chosen) = await shop.DrawAsync(request);

        Assert.True(check.Valid);
        Assert.Equal(chosen.Placement.DeviceId, check.Placement.DeviceId);

        // A device by name is that one or an error: work never moves where it was not sent.
        request.Options.RequestId = Guid.NewGuid().ToString();
        request.Placement = new DevicePlacement { DeviceId = "cuda:7" };
        var refused = await Assert.ThrowsAsync<ServerErrorException>(() => shop.DrawAsync(request));

        Assert.Equal(ErrorReason.DeviceNotFound, refused.Error.Reason);
        Assert.Equal(StatusCode.NotFound, refused.StatusCode);
    }
}
