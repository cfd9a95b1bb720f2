using System.Diagnostics;
using System.Text.Json;
using DeviceOperations.V1;
using Grpc.Core;
using Grpc.Net.Client;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

/// <summary>
/// Who gives out tokens: the command <c>deviceops</c> on the server's machine. OPERATORS_COMMAND
/// is how it is called here ("/usr/bin/python -m server.cli"), DEVICEOPS_DATA_DIR where the
/// server has its files.
/// </summary>
internal static class Operator
{
    /// <summary>Lets a client in, with a role: "read", "run" or "admin".</summary>
    /// <returns>Call metadata of that client.</returns>
    public static async Task<Metadata> LetInAsync(string name, string role = "run")
    {
        string said = await RunAsync("token", "add", name, "--role", role, "--json");
        string token = JsonDocument.Parse(said).RootElement.GetProperty("token").GetString()!;
        Metadata headers = ServerUnderTest.WithToken(token);
        await UntilAcceptedAsync(headers);
        return headers;
    }

    /// <summary>Shuts a client out.</summary>
    public static Task ShutOutAsync(string name) => RunAsync("token", "revoke", name);

    // A server that runs takes a new token up within a second or two.
    private static async Task UntilAcceptedAsync(Metadata headers)
    {
        using var channel = GrpcChannel.ForAddress("http://" + ServerUnderTest.Address);
        var system = new SystemService.SystemServiceClient(channel);
        for (var patience = Stopwatch.StartNew(); ; await Task.Delay(50))
        {
            try
            {
                await system.GetServerInfoAsync(new GetServerInfoRequest(), headers);
                return;
            }
            catch (RpcException refusal) when (
                refusal.StatusCode == StatusCode.Unauthenticated
                && patience.Elapsed < TimeSpan.FromSeconds(20))
            {
                // Not yet.
            }
        }
    }

    private static async Task<string> RunAsync(params string[] arguments)
    {
        string[] command = Environment.GetEnvironmentVariable("OPERATORS_COMMAND")?.Split(' ') ?? ["deviceops"];
        var start = new ProcessStartInfo(command[0], [.. command[1..], .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> complaint = process.StandardError.ReadToEndAsync();
        string said = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, said + await complaint);
        return said;
    }
}
