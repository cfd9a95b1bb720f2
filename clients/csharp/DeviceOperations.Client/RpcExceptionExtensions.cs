using DeviceOperations.Client.GoogleRpc;
using DeviceOperations.V1;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Enum = System.Enum;
using FieldViolation = DeviceOperations.V1.FieldViolation;
using RpcStatus = DeviceOperations.Client.GoogleRpc.Status;

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

        IEnumerable<BadRequest.Types.FieldViolation> violations =
            Find<BadRequest>(status)?.FieldViolations ?? [];
        return new ServerError(
            ReasonOf(info.Reason),
            info.Reason,
            status.Message,
            new Dictionary<string, string>(info.Metadata),
            [.. violations.Select(ToContract)],
            Find<RetryInfo>(status)?.RetryDelay?.ToTimeSpan());
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

    private static FieldViolation ToContract(BadRequest.Types.FieldViolation violation) => new()
    {
        Field = violation.Field,
        Reason = ReasonOf(violation.Reason),
        Description = violation.Description,
    };

    // The wire has TOKEN_INVALID, the contract's enum ERROR_REASON_TOKEN_INVALID.
    private static ErrorReason ReasonOf(string name)
    {
        int? number = CommonReflection.Descriptor
            .FindTypeByName<Google.Protobuf.Reflection.EnumDescriptor>(nameof(ErrorReason))
            ?.FindValueByName("ERROR_REASON_" + name)
            ?.Number;
        return (ErrorReason)(number ?? 0);
    }
}
