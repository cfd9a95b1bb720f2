using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>Writes the call metadata that the server reads.</summary>
public static class MetadataExtensions
{
    private const string ClientKey = "deviceops-client";

    /// <summary>
    /// Names the client whose memory a call is about; without a name it is "default". The name
    /// keeps books and is no secret.
    /// </summary>
    /// <param name="headers">The call's metadata; a name it had before is replaced.</param>
    /// <param name="name">At most 127 letters, digits, dots, underscores and hyphens.</param>
    /// <returns>The same metadata.</returns>
    public static Metadata WithClient(this Metadata headers, string name)
    {
        ArgumentNullException.ThrowIfNull(headers);
        ArgumentException.ThrowIfNullOrEmpty(name);
        while (headers.Get(ClientKey) is { } before)
        {
            headers.Remove(before);
        }

        headers.Add(ClientKey, name);
        return headers;
    }
}
