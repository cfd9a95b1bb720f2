using Grpc.Core;
using Grpc.Net.Client;
using Xunit.Sdk;

namespace DeviceOperations.Client.Tests;

/// <summary>
/// The running server these tests talk to. They start none: DEVICEOPS_ADDRESS ("127.0.0.1:50051")
/// and DEVICEOPS_TOKEN name it, OTHER_CLIENTS_TOKEN is another client's with role RUN; a test
/// without what it needs fails and says so.
/// </summary>
public sealed class ServerUnderTest : IDisposable
{
    private readonly Lazy<GrpcChannel> channel = new(() =>
        GrpcChannel.ForAddress("http://" + Address));

    /// <summary>Where it answers: "127.0.0.1:50051".</summary>
    public static string Address => Require("DEVICEOPS_ADDRESS");

    /// <summary>The channel, with a client's default limits.</summary>
    public GrpcChannel Channel => channel.Value;

    /// <summary>The server's own token.</summary>
    public static string Token => Require("DEVICEOPS_TOKEN");

    /// <summary>Call metadata with the server's own token.</summary>
    public static Metadata Authorized() => WithToken(Token);

    /// <summary>Call metadata with another client's token.</summary>
    public static Metadata AuthorizedAsAnother() => WithToken(Require("OTHER_CLIENTS_TOKEN"));

    /// <summary>Call metadata with any token.</summary>
    public static Metadata WithToken(string token) => new() { { "authorization", $"Bearer {token}" } };

    /// <inheritdoc/>
    public void Dispose()
    {
        if (channel.IsValueCreated)
        {
            channel.Value.Dispose();
        }
    }

    private static string Require(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value
            ? value
            : throw new XunitException(
                $"{variable} is not set: these tests need a running device-operations server. "
                + "`pytest tests/e2e/test_csharp.py` starts one and runs them.");
}
