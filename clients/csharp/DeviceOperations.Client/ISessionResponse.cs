using System.Diagnostics.CodeAnalysis;
using DeviceOperations.V1;

namespace DeviceOperations.Client;

/// <summary>
/// One message of a stream that carries a session's events. Every response of that kind
/// implements it, so that one method reads the streams of all services:
/// <see cref="SessionStreamExtensions"/>.
/// </summary>
public interface ISessionResponse
{
    /// <summary>What happened to the session.</summary>
    [SuppressMessage("Naming", "CA1716", Justification = "The contract's field has this name.")]
    SessionEvent Event { get; }
}
