// The example of README.md: tests/test_readme.py holds both copies equal.
using DeviceOperations.V1;
using Grpc.Core;
using Grpc.Net.Client;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class ReadmeExampleTests
{
    private static async Task DrawAsync(string address, string token, string file)
    {
        // README.md begins
        using var channel = GrpcChannel.ForAddress(address); // "http://127.0.0.1:50051"
        var inference = new InferenceService.InferenceServiceClient(channel);
        var headers = new Metadata { { "authorization", $"Bearer {token}" } };
        var request = new GenerateRequest
        {
            Settings = new GenerationSettings { Prompt = "a robot on a teal background", Seed = 1 },
        };

        using var picture = new MemoryStream();
        try
        {
            using var call = inference.Generate(request, headers);
            await call.ResponseStream.WaitForCompletionAsync(happened =>
            {
                if (happened.StepFinished is { } step)
                {
                    Console.WriteLine($"step {step.Step} of {step.Steps}");
                }
                else if (happened.ImageChunk is { } chunk)
                {
                    picture.SetLength(chunk.OffsetBytes); // 0 once more if its work began anew
                    chunk.Data.WriteTo(picture);
                }
            });

            await File.WriteAllBytesAsync(file, picture.ToArray());
        }
        catch (ServerErrorException refused)
        {
            Console.WriteLine($"{refused.Error.Reason}: {refused.Error.Message}");
            throw;
        }
        // README.md ends
    }

    [Fact]
    public async Task TheExampleSavesAPicture()
    {
        var file = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + ".png");
        try
        {
            await DrawAsync(
                "http://" + Environment.GetEnvironmentVariable("DEVICEOPS_ADDRESS"),
                Environment.GetEnvironmentVariable("DEVICEOPS_TOKEN") ?? "",
                file);

            Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], (await File.ReadAllBytesAsync(file))[..4]);
        }
        finally
        {
            File.Delete(file);
        }
    }
}
