using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class TwoClientsSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task TwoShopsOnOneServerDoNotSeeEachOther()
    {
        string mark = Guid.NewGuid().ToString("N");
        var bakery = new Orchestrator(server.Channel, await Operator.LetInAsync("bakery-" + mark));
        var florist = new Orchestrator(server.Channel, await Operator.LetInAsync("florist-" + mark));
        GenerateRequest request = Orchestrator.Picture(mark);

        // The same request_id twice: it belongs to its client, so these are two sessions.
        (string bread, SessionCompleted loaf) = await bakery.DrawAsync(request);
        (string flower, _) = await florist.DrawAsync(request);

        Assert.NotEqual(bread, flower);
        Assert.Equal([bread], await bakery.ListAsync(mark).Select(session => session.SessionId).ToListAsync());
        Session own = Assert.Single(await florist.ListAsync(mark).ToListAsync());
        Assert.Equal(flower, own.SessionId);
        Assert.Equal("florist-" + mark, own.Owner);

        // What is another's does not exist: not to look at, not to watch, not to cancel.
        var look = await Assert.ThrowsAsync<RpcException>(async () => await florist.Sessions
            .GetSessionAsync(new GetSessionRequest { SessionId = bread }, florist.Headers));
        var watch = await Assert.ThrowsAsync<ServerErrorException>(() => florist.Sessions
            .FollowSessionAsync(new WatchSessionRequest { SessionId = bread }, florist.Headers)
            .WaitForCompletionAsync());
        var cancel = await Assert.ThrowsAsync<RpcException>(async () => await florist.Sessions
            .CancelSessionAsync(new CancelSessionRequest { SessionId = bread }, florist.Headers));
        foreach (RpcException refusal in new[] { look, watch, cancel })
        {
            Assert.Equal(StatusCode.NotFound, refusal.StatusCode);
            Assert.Equal(ErrorReason.SessionNotFound, refusal.GetServerError()?.Reason);
        }

        // The same seed gave both the same bytes, which are kept once and belong to each.
        ListArtifactsResponse pictures = await florist.Artifacts.ListArtifactsAsync(
            new ListArtifactsRequest { SessionId = flower }, florist.Headers);
        Artifact picture = Assert.Single(pictures.Artifacts);
        Assert.Equal(Assert.Single(loaf.Images).ArtifactId, picture.ArtifactId);
        Assert.Equal("florist-" + mark, picture.Owner);
    }
}
