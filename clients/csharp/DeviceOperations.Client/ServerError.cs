using DeviceOperations.Rpc;
using DeviceOperations.V1;
using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>
/// Why a call or a session failed, as the server says it. Read it from a failed call with
/// <see cref="RpcExceptionExtensions.GetServerError"/>, from an answer or an event with
/// <see cref="From(Failure)"/>.
/// </summary>
/// <param name="StatusCode">The code the call ended with, or would have ended with.</param>
/// <param name="Reason">
/// What happened; <see cref="ErrorReason.Unspecified"/> when the server is newer than this
/// client and gives a reason it does not know. <paramref name="ReasonName"/> always has it.
/// </param>
/// <param name="ReasonName">The reason as sent, for example <c>TOKEN_INVALID</c>.</param>
/// <param name="Message">One English sentence with what to do about it.</param>
/// <param name="Metadata">Facts for a program, for example <c>needed_bytes</c>.</param>
/// <param name="Violations">The fields at fault; empty unless the request is.</param>
/// <param name="RetryDelay">
/// How long to wait before trying again; null when trying again does not help.
/// </param>
/// <param name="IncidentId">Key to the server's log; null unless the fault is the server's.</param>
public sealed record ServerError(
    StatusCode StatusCode,
    ErrorReason Reason,
    string ReasonName,
    string Message,
    IReadOnlyDictionary<string, string> Metadata,
    IReadOnlyList<BadRequest.Types.FieldViolation> Violations,
    TimeSpan? RetryDelay,
    string? IncidentId)
{
    /// <summary>A failure that came as data: in an event, a session, an answer.</summary>
    /// <param name="failure">The failure.</param>
    public static ServerError From(Failure failure)
    {
        ArgumentNullException.ThrowIfNull(failure);
        return new ServerError(
            (StatusCode)failure.StatusCode,
            ErrorReasons.Known(failure.Reason),
            ErrorReasons.NameOf(failure.Reason),
            failure.Message,
            new Dictionary<string, string>(failure.Metadata),
            [.. failure.Violations],
            failure.RetryDelay?.ToTimeSpan(),
            failure.IncidentId is { Length: > 0 } incident ? incident : null);
    }

    /// <summary>Why a session was stopped, as its last event says.</summary>
    /// <param name="cancelled">The event.</param>
    public static ServerError From(SessionCancelled cancelled)
    {
        ArgumentNullException.ThrowIfNull(cancelled);
        var said = cancelled.ReasonText is { Length: > 0 } text ? $": {text}" : ".";
        return new ServerError(
            cancelled.Reason switch
            {
                ErrorReason.DeadlineExpired => StatusCode.DeadlineExceeded,
                ErrorReason.ShuttingDown => StatusCode.Unavailable,
                _ => StatusCode.Cancelled,
            },
            ErrorReasons.Known(cancelled.Reason),
            ErrorReasons.NameOf(cancelled.Reason),
            "The session was cancelled" + said,
            new Dictionary<string, string>(),
            [],
            RetryDelay: null,
            IncidentId: null);
    }
}
