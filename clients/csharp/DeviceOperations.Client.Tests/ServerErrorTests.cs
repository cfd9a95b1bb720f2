using DeviceOperations.Rpc;
using DeviceOperations.V1;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Xunit;
using RpcStatus = DeviceOperations.Rpc.Status;

namespace DeviceOperations.Client.Tests;

public sealed class ServerErrorTests
{
    [Fact]
    public void EveryDetailIsRead()
    {
        var info = new ErrorInfo { Domain = "deviceops", Reason = "QUEUE_FULL" };
        info.Metadata.Add("incident_id", "a1");
        var request = new BadRequest();
        request.FieldViolations.Add(new BadRequest.Types.FieldViolation
        {
            Field = "settings.steps",
            Reason = "FIELD_OUT_OF_RANGE",
            Description = "steps is from 1 to 150.",
        });
        var retry = new RetryInfo { RetryDelay = Duration.FromTimeSpan(TimeSpan.FromSeconds(1.5)) };

        ServerError? error = Failed(info, request, retry).GetServerError();

        Assert.NotNull(error);
        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.Equal(ErrorReason.QueueFull, error.Reason);
        Assert.Equal("The queue is full.", error.Message);
        Assert.Equal("a1", error.IncidentId);
        Assert.Equal(TimeSpan.FromSeconds(1.5), error.RetryDelay);
        var violation = Assert.Single(error.Violations);
        Assert.Equal(("settings.steps", ErrorReason.FieldOutOfRange), (violation.Field, violation.GetErrorReason()));
    }

    [Fact]
    public void AReasonOfANewerServerKeepsItsName()
    {
        ServerError? error = Failed(new ErrorInfo { Domain = "deviceops", Reason = "OF_TOMORROW" })
            .GetServerError();

        Assert.NotNull(error);
        Assert.Equal(ErrorReason.Unspecified, error.Reason);
        Assert.Equal("OF_TOMORROW", error.ReasonName);
        Assert.Null(error.RetryDelay);
        Assert.Empty(error.Violations);
    }

    [Fact]
    public void AnotherServersDetailsAreNotOurs() =>
        Assert.Null(Failed(new ErrorInfo { Domain = "proxy", Reason = "QUEUE_FULL" }).GetServerError());

    [Fact]
    public void AFailureWithoutDetailsHasNone() =>
        Assert.Null(new RpcException(new(StatusCode.Unavailable, "no connection")).GetServerError());

    [Fact]
    public void BytesThatAreNoStatusAreNoDetails() =>
        Assert.Null(Failed([0xff, 0xff, 0xff]).GetServerError());

    private static RpcException Failed(params IMessage[] details)
    {
        var status = new RpcStatus { Code = 8, Message = "The queue is full." };
        status.Details.AddRange(details.Select(Any.Pack));
        return Failed(status.ToByteArray());
    }

    private static RpcException Failed(byte[] details) => new(
        new(StatusCode.ResourceExhausted, "The queue is full."),
        new Metadata { { "grpc-status-details-bin", details } });
}
