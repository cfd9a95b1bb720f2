using DeviceOperations.V1;
using Grpc.Core;
using Grpc.Net.Client;

namespace DeviceOperations.Client.Tests.Sketches;

/// <summary>What an orchestrator has for each server: one channel, its token, the clients it uses.</summary>
/// <param name="channel">The connection, shared by all calls.</param>
/// <param name="headers">Call metadata with the token; it names the client, too.</param>
internal sealed class Orchestrator(GrpcChannel channel, Metadata headers)
{
    public Metadata Headers => headers;

    public InferenceService.InferenceServiceClient Inference { get; } = new(channel);

    public ProcessingService.ProcessingServiceClient Sessions { get; } = new(channel);

    public ArtifactService.ArtifactServiceClient Artifacts { get; } = new(channel);

    /// <summary>A small picture, detached: it is drawn whether or not somebody listens.</summary>
    public static GenerateRequest Picture(string tag, int steps = 2) => new()
    {
        Settings = new GenerationSettings
        {
            Prompt = "a paper boat",
            Width = 256,
            Height = 256,
            Steps = steps,
            Seed = 5,
        },
        Options = new WorkOptions
        {
            RequestId = Guid.NewGuid().ToString(),
            OnDisconnect = OnDisconnect.Detach,
            Tags = { tag },
        },
        Delivery = new DeliveryOptions { OmitImageData = true },
    };

    /// <summary>Has it drawn, and waits for it.</summary>
    /// <returns>The session's id, and what it came to.</returns>
    public async Task<(string SessionId, SessionCompleted Completed)> DrawAsync(GenerateRequest request)
    {
        string session = "";
        using var call = Inference.Generate(request, headers);
        SessionCompleted completed = await call.ResponseStream
            .ReadEventsAsync(Sessions, headers, request.Delivery)
            .WaitForCompletionAsync(happened => session = happened.SessionId);
        return (session, completed);
    }

    /// <summary>Has it begun, and leaves: the session goes on without a listener.</summary>
    /// <returns>The session's id.</returns>
    public async Task<string> BeginAsync(GenerateRequest request)
    {
        using var call = Inference.Generate(request, headers);
        await foreach (SessionEvent happened in call.ResponseStream.ReadEventsAsync())
        {
            return happened.SessionId;
        }

        throw new InvalidDataException("The stream ended before its session began.");
    }

    /// <summary>The sessions of a tag that this client may see, all pages of them.</summary>
    public async IAsyncEnumerable<Session> ListAsync(string tag)
    {
        var request = new ListSessionsRequest { Filter = new SessionFilter { Tags = { tag } } };
        do
        {
            ListSessionsResponse page = await Sessions.ListSessionsAsync(request, headers);
            foreach (Session session in page.Sessions)
            {
                yield return session;
            }

            // Only an empty token is the last page: a page may be short, so as to fit in a message.
            request.PageToken = page.NextPageToken;
        }
        while (request.PageToken.Length > 0);
    }
}
