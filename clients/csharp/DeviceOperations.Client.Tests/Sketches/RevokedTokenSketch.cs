using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class RevokedTokenSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task WhoIsShutOutStopsSeeingAtOnceAndInTheMiddleOfAStream()
    {
        string name = "guest-" + Guid.NewGuid().ToString("N");
        var guest = new Orchestrator(server.Channel, await Operator.LetInAsync(name));
        using var call = guest.Inference.Generate(Orchestrator.Picture(name, steps: 150), guest.Headers);

        // The guest's picture is under way when the operator revokes the token.
        Task shutOut = Task.CompletedTask;
        string session = "";
        var ended = await Assert.ThrowsAsync<ServerErrorException>(() => call.ResponseStream
            .WaitForCompletionAsync(happened =>
            {
                session = happened.SessionId;
                if (happened.StepFinished is { Step: 1 })
                {
                    shutOut = Operator.ShutOutAsync(name);
                }
            }));
        await shutOut;

        Assert.Equal(StatusCode.Unauthenticated, ended.StatusCode);
        Assert.Equal(ErrorReason.TokenInvalid, ended.Error.Reason);

        // It is no lost connection: coming back is refused, too, and is not tried eight times.
        var refused = await Assert.ThrowsAsync<ServerErrorException>(() => guest.Sessions
            .FollowSessionAsync(new WatchSessionRequest { SessionId = session }, guest.Headers)
            .WaitForCompletionAsync());
        Assert.Equal(ErrorReason.TokenInvalid, refused.Error.Reason);

        // The operator still sees what the guest began, and ends it.
        var admin = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        CancelSessionResponse cancelled = await admin.Sessions.CancelSessionAsync(
            new CancelSessionRequest { SessionId = session, ReasonText = "The guest has left." },
            admin.Headers);
        Assert.Equal(name, cancelled.Session.Owner);
    }
}
