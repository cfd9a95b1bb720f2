using DeviceOperations.Rpc;
using DeviceOperations.V1;
using Google.Protobuf.Reflection;

namespace DeviceOperations.Client;

/// <summary>Reasons as they are in errors and in violations: words of the contract's enum.</summary>
public static class ErrorReasons
{
    private const string Prefix = "ERROR_REASON_";

    private static readonly EnumDescriptor Descriptor =
        ErrorsReflection.Descriptor.FindTypeByName<EnumDescriptor>(nameof(ErrorReason));

    /// <summary>What is wrong with the field.</summary>
    /// <param name="violation">A violation of an error or a validation.</param>
    /// <returns>
    /// The reason; <see cref="ErrorReason.Unspecified"/> for one of a newer server, which
    /// <c>violation.Reason</c> names.
    /// </returns>
    public static ErrorReason GetErrorReason(this BadRequest.Types.FieldViolation violation)
    {
        ArgumentNullException.ThrowIfNull(violation);
        return Parse(violation.Reason);
    }

    /// <summary>The reason of that name: <c>TOKEN_INVALID</c>.</summary>
    /// <param name="name">The reason as it is in an error.</param>
    /// <returns>The reason; <see cref="ErrorReason.Unspecified"/> for a name unknown here.</returns>
    public static ErrorReason Parse(string name) =>
        (ErrorReason)(Descriptor.FindValueByName(Prefix + name)?.Number ?? 0);

    internal static ErrorReason Known(ErrorReason reason) =>
        Descriptor.FindValueByNumber((int)reason) is null ? ErrorReason.Unspecified : reason;

    // A reason of a newer server comes as a number without a name.
    internal static string NameOf(ErrorReason reason) =>
        Descriptor.FindValueByNumber((int)reason)?.Name[Prefix.Length..] ?? $"{(int)reason}";
}
