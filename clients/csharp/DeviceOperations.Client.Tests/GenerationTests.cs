using System.Buffers.Binary;
using System.Security.Cryptography;
using DeviceOperations.V1;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class GenerationTests(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    private const int Steps = 6;
    private const long Seed = 7;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);
    private static readonly byte[] PngSignature = [0x89, (byte)'P', (byte)'N', (byte)'G', 13, 10, 26, 10];

    [Fact]
    public async Task APictureArrivesInChunksAfterItsSteps()
    {
        var events = new List<SessionEvent>();
        using var call = Generate(Steps);
        SessionCompleted completed = await call.ResponseStream.WaitForCompletionAsync(events.Add);

        SessionAccepted accepted = Assert.IsType<SessionAccepted>(events[0].Accepted);
        Assert.Equal(SessionKind.Generation, accepted.Kind);
        Assert.Equal([Seed], accepted.Seeds);
        Assert.Single(events, happened => happened.Accepted is not null);
        Assert.Same(completed, Assert.Single(events, happened => happened.IsTerminal()).Completed);
        Assert.Single(events.Select(happened => happened.SessionId).Distinct());

        var steps = events.Select(happened => happened.StepFinished).OfType<StepFinished>().ToList();
        Assert.Equal(Enumerable.Range(1, Steps), steps.Select(step => step.Step));

        ImageResult image = Assert.Single(completed.Images);
        Assert.Equal(Seed, image.Seed);
        AssertIsPng(Reassemble(events), image);
    }

    [Fact]
    public async Task ABrokenRequestNamesTheFieldAtFault()
    {
        var request = Request(Steps);
        request.Settings.Width = 257;
        using var call = Client().Generate(request, ServerUnderTest.Authorized());

        var refusal = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());

        Assert.Equal(StatusCode.InvalidArgument, refusal.StatusCode);
        var error = Assert.IsType<ServerError>(refusal.GetServerError());
        var violation = Assert.Single(error.Violations);
        Assert.Equal("settings.width", violation.Field);
        Assert.Equal(ErrorReason.DimensionsInvalid, violation.GetErrorReason());
    }

    [Fact]
    public async Task CancellingTheSessionEndsItsStreamAsCancelled()
    {
        using var call = Generate(steps: 150);
        SessionEvent step = await FirstStep(call);

        await new ProcessingService.ProcessingServiceClient(server.Channel).CancelSessionAsync(
            new CancelSessionRequest { SessionId = step.SessionId, ReasonText = "the test has seen enough" },
            ServerUnderTest.Authorized());
        var rest = new List<SessionEvent>();
        var end = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            await foreach (SessionEvent happened in call.ResponseStream.ReadEventsAsync())
            {
                rest.Add(happened);
            }
        });

        Assert.Equal(StatusCode.Cancelled, end.StatusCode);
        Assert.Equal(ErrorReason.CancelledByClient, end.GetServerError()?.Reason);
        Assert.Equal("the test has seen enough", rest[^1].Cancelled.ReasonText);
        Assert.Single(rest, happened => happened.IsTerminal());
    }

    [Fact]
    public async Task DroppingTheCallCancelsItsSession()
    {
        using var given = new CancellationTokenSource(Patience);
        using var call = Generate(steps: 150, given.Token);
        SessionEvent step = await FirstStep(call);

        await given.CancelAsync();
        var end = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            await foreach (GenerateResponse _ in call.ResponseStream.ReadAllAsync())
            {
                // Steps that were on their way.
            }
        });

        Assert.Equal(StatusCode.Cancelled, end.StatusCode);
        SessionEvent last = await LastEventOf(step.SessionId);
        Assert.Equal(SessionEvent.EventOneofCase.Cancelled, last.EventCase);
        Assert.Equal(ErrorReason.ClientDisconnected, last.Cancelled.Reason);
    }

    private static GenerateRequest Request(int steps) => new()
    {
        Settings = new GenerationSettings
        {
            Prompt = "a red apple on a blue background",
            Width = 256,
            Height = 256,
            Steps = steps,
            Seed = Seed,
        },
    };

    private static async Task<SessionEvent> FirstStep(AsyncServerStreamingCall<GenerateResponse> call)
    {
        while (await call.ResponseStream.MoveNext())
        {
            SessionEvent happened = call.ResponseStream.Current.Event;
            if (happened.StepFinished is not null)
            {
                return happened;
            }
        }

        throw new InvalidOperationException("The stream ended before its first step.");
    }

    private static byte[] Reassemble(IEnumerable<SessionEvent> events)
    {
        using var file = new MemoryStream();
        foreach (ImageChunk chunk in events.Select(happened => happened.ImageChunk).OfType<ImageChunk>())
        {
            Assert.Equal(file.Length, chunk.OffsetBytes);
            chunk.Data.WriteTo(file);
            Assert.True(file.Length <= chunk.TotalBytes);
        }

        return file.ToArray();
    }

    private static void AssertIsPng(byte[] file, ImageResult image)
    {
        Assert.Equal(ImageFileFormat.Png, image.Format);
        Assert.Equal(image.SizeBytes, file.Length);
        Assert.Equal(image.ArtifactId, Convert.ToHexStringLower(SHA256.HashData(file)));

        Assert.Equal(PngSignature, file[..8]);
        Assert.Equal("IHDR"u8.ToArray(), file[12..16]);
        Assert.Equal(256u, BinaryPrimitives.ReadUInt32BigEndian(file.AsSpan(16)));
        Assert.Equal(256u, BinaryPrimitives.ReadUInt32BigEndian(file.AsSpan(20)));
    }

    private InferenceService.InferenceServiceClient Client() => new(server.Channel);

    private AsyncServerStreamingCall<GenerateResponse> Generate(
        int steps, CancellationToken cancellation = default) =>
        Client().Generate(
            Request(steps), ServerUnderTest.Authorized(), DateTime.UtcNow.Add(Patience), cancellation);

    private async Task<SessionEvent> LastEventOf(string sessionId)
    {
        var sessions = new ProcessingService.ProcessingServiceClient(server.Channel);
        using var watch = sessions.WatchSession(
            new WatchSessionRequest { SessionId = sessionId },
            ServerUnderTest.Authorized(),
            DateTime.UtcNow.Add(Patience));
        return await watch.ResponseStream.ReadEventsAsync().LastAsync();
    }
}
