using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class SessionStreamTests
{
    private static readonly SessionEvent Step = new() { StepFinished = new StepFinished { Step = 1 } };

    [Fact]
    public async Task ACompletedSessionGivesWhatItCameTo()
    {
        var seen = new List<SessionEvent>();
        var completed = new SessionCompleted { ImageCount = 2 };

        SessionCompleted result = await Stream(Step, new() { Completed = completed })
            .WaitForCompletionAsync(seen.Add);

        Assert.Same(completed, result);
        Assert.Equal(2, seen.Count);
    }

    [Fact]
    public async Task AFailedSessionThrowsItsReasonEvenWhereTheWatchItselfEndsWell()
    {
        var failure = new Failure
        {
            StatusCode = (int)StatusCode.ResourceExhausted,
            Reason = ErrorReason.DeviceOutOfMemory,
            Message = "Draw it smaller.",
        };

        var thrown = await Assert.ThrowsAsync<ServerErrorException>(() =>
            Stream(Step, new() { Failed = new SessionFailed { Failure = failure } })
                .WaitForCompletionAsync());

        Assert.Equal(StatusCode.ResourceExhausted, thrown.StatusCode);
        Assert.Equal(ErrorReason.DeviceOutOfMemory, thrown.Error.Reason);
        Assert.Equal("DEVICE_OUT_OF_MEMORY", thrown.Error.ReasonName);
        Assert.Null(thrown.Error.IncidentId);
        Assert.Same(thrown.Error, ((RpcException)thrown).GetServerError());
    }

    [Theory]
    [InlineData(ErrorReason.CancelledByClient, StatusCode.Cancelled)]
    [InlineData(ErrorReason.DeadlineExpired, StatusCode.DeadlineExceeded)]
    [InlineData(ErrorReason.ShuttingDown, StatusCode.Unavailable)]
    public async Task ACancelledSessionThrowsWhoAndWhy(ErrorReason reason, StatusCode code)
    {
        var cancelled = new SessionCancelled { Reason = reason, ReasonText = "not needed any more" };

        var thrown = await Assert.ThrowsAsync<ServerErrorException>(() =>
            Stream(new SessionEvent { Cancelled = cancelled }).WaitForCompletionAsync());

        Assert.Equal(code, thrown.StatusCode);
        Assert.Equal(reason, thrown.Error.Reason);
        Assert.Contains("not needed any more", thrown.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AReasonOfANewerServerKeepsItsNumber()
    {
        var failure = new Failure { Reason = (ErrorReason)9999 };

        var thrown = await Assert.ThrowsAsync<ServerErrorException>(() =>
            Stream(new SessionEvent { Failed = new SessionFailed { Failure = failure } })
                .WaitForCompletionAsync());

        Assert.Equal(ErrorReason.Unspecified, thrown.Error.Reason);
        Assert.Equal("9999", thrown.Error.ReasonName);
    }

    [Fact]
    public async Task AStreamThatEndsBeforeItsSessionIsNoSuccess() =>
        await Assert.ThrowsAsync<InvalidDataException>(() => Stream(Step).WaitForCompletionAsync());

    private static Events Stream(params SessionEvent[] events) => new(events);

    private sealed class Events(SessionEvent[] events) : IAsyncStreamReader<GenerateResponse>
    {
        private int next;

        public GenerateResponse Current => new() { Event = events[next - 1] };

        public Task<bool> MoveNext(CancellationToken cancellationToken) =>
            Task.FromResult(next++ < events.Length);
    }
}
