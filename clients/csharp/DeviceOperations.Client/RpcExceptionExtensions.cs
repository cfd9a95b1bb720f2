using DeviceOperations.Rpc;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using RpcStatus = DeviceOperations.Rpc.Status;

namespace DeviceOperations.Client;

/// <summary>Reads the details of a failed call.</summary>
public static class RpcExceptionExtensions
{
    private const string DetailsTrailer = "grpc-status-details-bin";
    private const string ErrorDomain = "deviceops";

    /// <summary>
    /// What the server said about the failure; null when it said nothing, because the failure
    /// is not its own (no connection, a proxy, this client's deadline or cancellation).
    /// </summary>
    /// <param name="exception">The exception of the failed call.</param>
    public static ServerError? GetServerError(this RpcException exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        if (exception is ServerErrorException known)
        {
            return known.Error;
        }

        if (exception.Trailers.GetValueBytes(DetailsTrailer) is not { } bytes
            || !TryParse(bytes, out RpcStatus status))
        {
            return null;
        }

        ErrorInfo? info = Find<ErrorInfo>(status);
        if (info is null || info.Domain != ErrorDomain)
        {
            return null;
        }

        return new ServerError(
            exception.StatusCode,
            ErrorReasons.Parse(info.Reason),
            info.Reason,
            status.Message,
            new Dictionary<string, string>(info.Metadata),
            [.. Find<BadRequest>(status)?.FieldViolations ?? []],
            Find<RetryInfo>(status)?.RetryDelay?.ToTimeSpan(),
            info.Metadata.TryGetValue("incident_id", out string? incident) ? incident : null);
    }

    private static bool TryParse(byte[] bytes, out RpcStatus status)
    {
        try
        {
            status = RpcStatus.Parser.ParseFrom(bytes);
            return true;
        }
        catch (InvalidProtocolBufferException) // not from a device-operations server
        {
            status = new RpcStatus();
            return false;
        }
    }

    private static T? Find<T>(RpcStatus status)
        where T : class, IMessage<T>, new()
    {
        foreach (Any detail in status.Details)
        {
            if (detail.TryUnpack(out T message))
            {
                return message;
            }
        }

        return null;
    }
}
