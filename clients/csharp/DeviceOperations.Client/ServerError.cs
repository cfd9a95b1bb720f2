using DeviceOperations.V1;

namespace DeviceOperations.Client;

/// <summary>
/// Why a call failed, as the server tells it beside the status code. Read it with
/// <see cref="RpcExceptionExtensions.GetServerError"/>.
/// </summary>
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
public sealed record ServerError(
    ErrorReason Reason,
    string ReasonName,
    string Message,
    IReadOnlyDictionary<string, string> Metadata,
    IReadOnlyList<FieldViolation> Violations,
    TimeSpan? RetryDelay)
{
    /// <summary>Key to the server's log; null unless the fault is the server's.</summary>
    public string? IncidentId => Metadata.GetValueOrDefault("incident_id");
}
