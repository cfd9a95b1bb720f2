using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class AfterRestartSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task AnOrchestratorThatStartsAgainFollowsEverythingWithoutPolling()
    {
        string mark = Guid.NewGuid().ToString("N");
        var filter = new SessionFilter { Tags = { mark } };
        var before = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        string first = await before.BeginAsync(Orchestrator.Picture(mark));

        // It keeps one number with its own data: the revision of the last change it has dealt with.
        long dealtWith = (await before.Sessions.ListSessionsAsync(
            new ListSessionsRequest { Filter = filter }, before.Headers)).Revision;

        // Down. Work that was begun goes on, and somebody else's process begins more.
        string second = await before.BeginAsync(Orchestrator.Picture(mark));

        // Up again: every change since that number, none twice, then those to come.
        var after = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        var ended = new Dictionary<string, SessionState>();
        var request = new WatchSessionsRequest { Filter = filter, FromRevision = dealtWith };
        using var watch = after.Sessions.WatchSessions(request, after.Headers);
        await foreach (WatchSessionsResponse change in watch.ResponseStream.ReadAllAsync())
        {
            switch (change.Kind)
            {
                case SessionChangeKind.Ended:
                    ended.Add(change.Session.SessionId, change.Session.State);
                    break;
                case SessionChangeKind.Added:
                    Assert.Equal(second, change.Session.SessionId);
                    break;
                case SessionChangeKind.Changed or SessionChangeKind.Heartbeat:
                    break;
                default: // kinds of a newer server, which add and never contradict
                    Assert.Fail($"A watch that goes on told the state of now: {change.Kind}");
                    break;
            }

            Assert.True(change.Revision >= dealtWith);
            dealtWith = change.Revision;
            if (ended.Count == 2)
            {
                break;
            }
        }

        // One device, so the one that was begun first ended first.
        Assert.Equal([first, second], ended.Keys);
        Assert.All(ended.Values, state => Assert.Equal(SessionState.Completed, state));
    }

    [Fact]
    public async Task ANumberFromBeforeIsRefusedAndTheStateOfNowIsThere()
    {
        var after = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        var request = new WatchSessionsRequest { FromRevision = long.MaxValue };

        // A server that lost its memory does not know the number. It says so, and never skips in silence.
        using var watch = after.Sessions.WatchSessions(request, after.Headers);
        var refusal = await Assert.ThrowsAsync<RpcException>(() => watch.ResponseStream.MoveNext());
        Assert.Equal(ErrorReason.EventsExpired, refusal.GetServerError()?.Reason);

        // Without a number: the sessions there are, a mark where they end, then changes.
        using var anew = after.Sessions.WatchSessions(new WatchSessionsRequest(), after.Headers);
        await foreach (WatchSessionsResponse change in anew.ResponseStream.ReadAllAsync())
        {
            if (change.Kind == SessionChangeKind.SnapshotEnd)
            {
                return;
            }

            Assert.Equal(SessionChangeKind.Added, change.Kind);
        }

        Assert.Fail("The state of now has no end.");
    }
}
