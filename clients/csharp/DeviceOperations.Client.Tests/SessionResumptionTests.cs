using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class SessionResumptionTests(ServerUnderTest server)
    : IClassFixture<ServerUnderTest>, IDisposable
{
    private const int Steps = 40;

    private static readonly ResumeOptions Soon = new()
    {
        MaxAttempts = 2,
        FirstDelay = TimeSpan.FromMilliseconds(10),
    };

    private readonly BreakableWire wire = new(ServerUnderTest.Address);

    [Fact]
    public async Task ACutConnectionGoesOnAfterTheLastEvent()
    {
        using var call = Generate(OnDisconnect.Detach);
        var steps = new List<int>();

        SessionCompleted completed = await call.ResponseStream
            .ReadEventsAsync(Sessions(), ServerUnderTest.Authorized(), resume: Soon)
            .WaitForCompletionAsync(happened =>
            {
                if (happened.StepFinished is { } step)
                {
                    steps.Add(step.Step);
                    if (step.Step is 3 or 6)
                    {
                        wire.Cut();
                    }
                }
            });

        Assert.Equal(Enumerable.Range(1, Steps), steps);
        Assert.Single(completed.Images);
    }

    [Fact]
    public async Task AConnectionThatFellSilentIsFoundByItsPings()
    {
        using var call = Generate(OnDisconnect.Detach);
        var steps = new List<int>();

        await call.ResponseStream
            .ReadEventsAsync(Sessions(), ServerUnderTest.Authorized(), resume: Soon)
            .WaitForCompletionAsync(happened =>
            {
                if (happened.StepFinished is { } step)
                {
                    steps.Add(step.Step);
                    if (step.Step == 3)
                    {
                        wire.Silence();
                    }
                }
            });

        Assert.Equal(Enumerable.Range(1, Steps), steps);
    }

    [Fact]
    public async Task ASilenceWithoutHeartbeatsEndsWhereNothingElseNoticesIt()
    {
        ResumeOptions impatient = new() { MaxAttempts = 0, MaxSilence = TimeSpan.FromMilliseconds(50) };
        IAsyncStreamReader<GenerateResponse> stalled = new Stalled();

        var thrown = await Assert.ThrowsAsync<RpcException>(() => stalled
            .ReadEventsAsync(Sessions(), resume: impatient)
            .WaitForCompletionAsync());

        Assert.Equal(StatusCode.Unavailable, thrown.StatusCode);
        Assert.Contains("heartbeat", thrown.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASessionThatDidNotOutliveItsConnectionSaysSo()
    {
        using var call = Generate(OnDisconnect.Cancel);

        var thrown = await Assert.ThrowsAsync<ServerErrorException>(() => call.ResponseStream
            .ReadEventsAsync(Sessions(), ServerUnderTest.Authorized(), resume: Soon)
            .WaitForCompletionAsync(happened =>
            {
                if (happened.StepFinished is { Step: 2 })
                {
                    wire.Cut();
                }
            }));

        Assert.Equal(ErrorReason.ClientDisconnected, thrown.Error.Reason);
    }

    [Fact]
    public async Task AServerThatDoesNotComeBackIsGivenUp()
    {
        using var call = Generate(OnDisconnect.Detach);
        string session = "";

        var thrown = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream
            .ReadEventsAsync(Sessions(), ServerUnderTest.Authorized(), resume: Soon)
            .WaitForCompletionAsync(happened =>
            {
                session = happened.SessionId;
                wire.Close();
                wire.Cut();
            }));

        Assert.Equal(StatusCode.Unavailable, thrown.StatusCode);
        Assert.Null(thrown.GetServerError());
        await new ProcessingService.ProcessingServiceClient(server.Channel).CancelSessionAsync(
            new CancelSessionRequest { SessionId = session }, ServerUnderTest.Authorized());
    }

    [Fact]
    public async Task ASessionThatIsNotThereIsNotTriedAgain()
    {
        var request = new WatchSessionRequest { SessionId = "never-was" };

        var thrown = await Assert.ThrowsAsync<ServerErrorException>(() => Sessions()
            .FollowSessionAsync(request, ServerUnderTest.Authorized())
            .WaitForCompletionAsync());

        Assert.Equal(ErrorReason.SessionNotFound, thrown.Error.Reason);
        Assert.Contains(thrown.Trailers, trailer => trailer.Key == "grpc-status-details-bin");
    }

    /// <inheritdoc/>
    public void Dispose() => wire.Dispose();

    private ProcessingService.ProcessingServiceClient Sessions() => new(wire.Channel);

    private AsyncServerStreamingCall<GenerateResponse> Generate(OnDisconnect onDisconnect)
    {
        var request = new GenerateRequest
        {
            Settings = new GenerationSettings
            {
                Prompt = "a lighthouse",
                Width = 256,
                Height = 256,
                Steps = Steps,
                Seed = 11,
            },
            Options = new WorkOptions { OnDisconnect = onDisconnect },
        };
        return new InferenceService.InferenceServiceClient(wire.Channel)
            .Generate(request, ServerUnderTest.Authorized());
    }

    /// <summary>A stream whose server is gone, behind a proxy that is not.</summary>
    private sealed class Stalled : IAsyncStreamReader<GenerateResponse>
    {
        public GenerateResponse Current => throw new InvalidOperationException();

        public async Task<bool> MoveNext(CancellationToken cancellationToken)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, cancellationToken);
            return false;
        }
    }
}
