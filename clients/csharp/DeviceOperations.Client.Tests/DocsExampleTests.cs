// The examples of docs/csharp.md: tests/test_readme.py holds both copies equal.
using DeviceOperations.V1;
using Grpc.Core;
using Grpc.Net.Client;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class DocsExampleTests(ServerUnderTest running) : IClassFixture<ServerUnderTest>
{
    // 64 x 48 pixels.
    private const string RedPng =
        "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetIAAAAQElEQVR42u3PQQkAAAgAsetfWiv4FQYrsKZeS0BA"
        + "QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgagGlwfSmsRz7tgAAAABJRU5ErkJggg==";

    private static readonly Metadata headers = ServerUnderTest.Authorized();

    private readonly GrpcChannel channel = running.Channel;
    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    private static async Task<string> ConnectAsync(string address, string token)
    {
        // docs/csharp.md begins
        var channel = GrpcChannel.ForAddress(address, new GrpcChannelOptions // "http://127.0.0.1:50051"
        {
            HttpHandler = new SocketsHttpHandler
            {
                EnableMultipleHttp2Connections = true, // more than 100 streams at once
                KeepAlivePingDelay = TimeSpan.FromSeconds(30),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
                PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            },
        });
        var headers = new Metadata { { "authorization", $"Bearer {token}" } };

        var server = await new SystemService.SystemServiceClient(channel)
            .GetServerInfoAsync(new GetServerInfoRequest(), headers);
        Console.WriteLine($"{server.ServerVersion}, I am {server.ClientName} ({server.ClientRole})");
        // docs/csharp.md ends
        channel.Dispose();
        return server.ClientName;
    }

    private async Task DrawAsync()
    {
        // docs/csharp.md begins
        var request = new GenerateRequest
        {
            Settings = new GenerationSettings { Prompt = "a lighthouse at night", ImageCount = 2 },
            Options = new WorkOptions
            {
                RequestId = Guid.NewGuid().ToString(), // sent again, it names this session
                OnDisconnect = OnDisconnect.Detach, // it outlives this connection
            },
            Delivery = new DeliveryOptions { OmitImageData = true }, // fetched by id, when wanted
        };

        using var call = new InferenceService.InferenceServiceClient(channel).Generate(request, headers);
        SessionCompleted completed = await call.ResponseStream
            .ReadEventsAsync(new ProcessingService.ProcessingServiceClient(channel), headers)
            .WaitForCompletionAsync(happened => Console.WriteLine(happened.EventCase));

        var artifacts = new ArtifactService.ArtifactServiceClient(channel);
        foreach (ImageResult image in completed.Images)
        {
            await using var file = File.Create(Path.Combine(folder, $"{image.ImageIndex}.png"));
            using var download = artifacts.DownloadArtifact(
                new DownloadArtifactRequest { ArtifactId = image.ArtifactId }, headers);
            await foreach (var part in download.ResponseStream.ReadAllAsync())
            {
                part.Data.WriteTo(file);
            }
        }
        // docs/csharp.md ends
    }

    private async Task<(GenerateBatchRequest Asked, SessionCompleted Completed)> DrawManyAsync()
    {
        // docs/csharp.md begins
        var request = new GenerateBatchRequest
        {
            Template = new GenerationSettings { Prompt = "a lighthouse", Steps = 8, Seed = 7 },
            Delivery = new DeliveryOptions { OmitImageData = true },
        };
        foreach (string light in (string[])["at dawn", "in fog", "at night"])
        {
            var own = new GenerationSettings { Prompt = $"a lighthouse {light}" }; // the rest is the template's
            request.Items.Add(new GenerationItem
            {
                ItemId = light,
                Overlay = new GenerationOverlay { Settings = own },
            });
        }

        using var call = new InferenceService.InferenceServiceClient(channel).GenerateBatch(request, headers);
        SessionCompleted completed = await call.ResponseStream.WaitForCompletionAsync(happened =>
        {
            if (happened.ItemFinished is not { } item)
            {
                return;
            }
            string outcome = item.Failure is { } failure
                ? ServerError.From(failure).Message // this one alone: the others go on
                : string.Join(", ", item.Images.Select(image => image.ArtifactId));
            Console.WriteLine($"{item.ItemId}, {item.DoneCount} of {item.TotalCount}: {outcome}");
        });
        Console.WriteLine($"{completed.GenerationBatch.FailedCount} failed");
        // docs/csharp.md ends
        return (request, completed);
    }

    private async Task<GetBatchResponse> DrawDurablyAsync()
    {
        // docs/csharp.md begins
        var request = new CreateBatchRequest
        {
            Template = new GenerationSettings { Prompt = "a lighthouse", Steps = 8, Seed = 7 },
            Options = new WorkOptions { RequestId = Guid.NewGuid().ToString() }, // sent again, it is this batch
            MaxFailures = 10,
        };
        foreach (string light in (string[])["at dawn", "in fog", "at night"])
        {
            var own = new GenerationSettings { Prompt = $"a lighthouse {light}" };
            request.Items.Add(new BatchItem
            {
                ItemId = light,
                Overlay = new GenerationOverlay { Settings = own },
            });
        }

        var processing = new ProcessingService.ProcessingServiceClient(channel);
        Batch batch = (await processing.CreateBatchAsync(request, headers)).Batch; // on disk: you may leave now

        using var watch = processing.WatchBatch(new WatchBatchRequest { BatchId = batch.BatchId }, headers);
        await foreach (WatchBatchResponse response in watch.ResponseStream.ReadAllAsync())
        {
            if (response.Event.ItemFinished is { } item)
            {
                Console.WriteLine($"{item.ItemId}, {item.DoneCount} of {item.TotalCount}");
            }
        }

        var wanted = new GetBatchRequest { BatchId = batch.BatchId };
        GetBatchResponse found = await processing.GetBatchAsync(wanted, headers);
        foreach (BatchItemStatus item in found.Items)
        {
            Console.WriteLine($"{item.ItemId}: {string.Join(", ", item.Images.Select(image => image.ArtifactId))}");
        }
        // docs/csharp.md ends
        return found;
    }

    private async Task<SessionCompleted> RunAsync()
    {
        // docs/csharp.md begins
        var request = new RunWorkflowRequest
        {
            WorkflowId = "basic-image-generation",
            Options = new WorkOptions { RequestId = Guid.NewGuid().ToString(), OnDisconnect = OnDisconnect.Detach },
            Delivery = new DeliveryOptions { OmitImageData = true },
        };
        request.Arguments.Add("prompt", new WorkflowValue { Text = "a lighthouse at night" });
        request.Arguments.Add("steps", new WorkflowValue { Integer = 8 });
        request.Arguments.Add("count", new WorkflowValue { Integer = 2 });

        using var call = new ProcessingService.ProcessingServiceClient(channel).RunWorkflow(request, headers);
        SessionCompleted completed = await call.ResponseStream.WaitForCompletionAsync(happened =>
        {
            if (happened.ItemFinished is { } step)
            {
                Console.WriteLine($"{step.ItemId}, {step.DoneCount} of {step.TotalCount} steps");
            }
        });
        Console.WriteLine(string.Join(", ", completed.Images.Select(image => image.ArtifactId)));
        // docs/csharp.md ends
        return completed;
    }

    private async Task<string> TryAsync(GenerateRequest request)
    {
        var inference = new InferenceService.InferenceServiceClient(channel);
        // docs/csharp.md begins
        try
        {
            using var call = inference.Generate(request, headers);
            await call.ResponseStream.WaitForCompletionAsync();
        }
        catch (ServerErrorException refused)
        {
            switch (refused.Error.Reason)
            {
                case ErrorReason.QueueFull or ErrorReason.WorkerLost:
                    return $"Again in {refused.Error.RetryDelay}.";
                case ErrorReason.DeviceOutOfMemory:
                    return "Smaller, or elsewhere.";
                default: // every other one, those of newer servers included
                    return string.Join('\n', refused.Error.Violations
                        .Select(violation => $"{violation.Field}: {violation.Description}")
                        .Prepend(refused.Error.Message));
            }
        }
        // docs/csharp.md ends
        return "";
    }

    private async Task<ImageToImage> UploadAsync(string path)
    {
        // docs/csharp.md begins
        var artifacts = new ArtifactService.ArtifactServiceClient(channel);
        await using var file = File.OpenRead(path);
        Artifact artifact = await artifacts.UploadAsync(file, headers);

        var start = new ImageToImage { Image = new InputImage { ArtifactId = artifact.ArtifactId } };
        // docs/csharp.md ends
        return start;
    }

    private async Task<ListArtifactsResponse> KeepAsync(string path, string album)
    {
        // docs/csharp.md begins
        var artifacts = new ArtifactService.ArtifactServiceClient(channel);
        await using (var source = File.OpenRead(path))
        {
            Artifact stored = await artifacts.UploadAsync(source, headers, retention: TimeSpan.FromDays(30));
            var change = new UpdateArtifactRequest { ArtifactId = stored.ArtifactId, Pinned = true };
            change.Labels.Add("album", album); // your own words, to find it again
            await artifacts.UpdateArtifactAsync(change, headers);
        }

        var wanted = new ListArtifactsRequest { MediaTypePrefix = "image/" };
        wanted.Labels.Add("album", album);
        ListArtifactsResponse page = await artifacts.ListArtifactsAsync(wanted, headers); // newest first
        foreach (Artifact artifact in page.Artifacts)
        {
            var small = new GetThumbnailRequest { ArtifactId = artifact.ArtifactId, EdgePixels = 128 };
            GetThumbnailResponse thumbnail = await artifacts.GetThumbnailAsync(small, headers);
            await File.WriteAllBytesAsync(
                Path.Combine(folder, $"{artifact.ArtifactId}.webp"), thumbnail.Data.ToByteArray());
            Console.WriteLine($"{artifact.Width} x {artifact.Height}, shown as {thumbnail.Width} x {thumbnail.Height}");

            await using var file = File.Create(Path.Combine(folder, artifact.ArtifactId));
            var rest = new DownloadArtifactRequest { ArtifactId = artifact.ArtifactId, OffsetBytes = file.Length };
            using var download = artifacts.DownloadArtifact(rest, headers); // from any byte on, also after a broken one
            await foreach (DownloadArtifactResponse part in download.ResponseStream.ReadAllAsync())
            {
                part.Data.WriteTo(file);
            }
        }
        // docs/csharp.md ends
        return page;
    }

    [Fact]
    public async Task TheServerSaysWhoIAm() => Assert.NotEmpty(await ConnectAsync(
        "http://" + ServerUnderTest.Address, ServerUnderTest.Token));

    [Fact]
    public async Task PicturesAreDrawnFetchedAndUploadedAgain()
    {
        await DrawAsync();

        string[] files = Directory.GetFiles(folder);
        Assert.Equal(2, files.Length);
        ImageToImage start = await UploadAsync(files[0]);
        Assert.Equal(64, start.Image.ArtifactId.Length);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task ArtifactsAreKeptFoundShownAndFetched()
    {
        string path = Path.Combine(folder, "given");
        await File.WriteAllBytesAsync(path, Convert.FromBase64String(RedPng));

        ListArtifactsResponse page = await KeepAsync(path, Guid.NewGuid().ToString());

        Artifact found = Assert.Single(page.Artifacts);
        Assert.True(found.Pinned);
        Assert.Equal("image/png", found.MediaType);
        Assert.Equal(
            await File.ReadAllBytesAsync(path),
            await File.ReadAllBytesAsync(Path.Combine(folder, found.ArtifactId)));
        byte[] thumbnail = await File.ReadAllBytesAsync(Path.Combine(folder, $"{found.ArtifactId}.webp"));
        Assert.Equal("RIFF"u8.ToArray(), thumbnail[..4]);
        await new ArtifactService.ArtifactServiceClient(channel).DeleteArtifactAsync(
            new DeleteArtifactRequest { ArtifactId = found.ArtifactId }, headers);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task EveryItemOfABatchIsDrawn()
    {
        var (asked, completed) = await DrawManyAsync();

        Assert.Equal(3, completed.GenerationBatch.CompletedCount);
        Assert.Equal(0, completed.GenerationBatch.FailedCount);
        Assert.Equal(
            asked.Items.Select(item => item.ItemId), completed.Images.Select(image => image.ItemId));
        Assert.Equal(3, completed.Images.Select(image => image.ArtifactId).Distinct().Count());
    }

    [Fact]
    public async Task ADurableBatchIsWatchedToItsEnd()
    {
        GetBatchResponse found = await DrawDurablyAsync();

        Assert.Equal(SessionState.Completed, found.Batch.State);
        Assert.Equal(3, found.Batch.CompletedCount);
        Assert.Equal(3, found.Items.Select(item => Assert.Single(item.Images).ArtifactId).Distinct().Count());
    }

    [Fact]
    public async Task AReadyMadeWorkflowRuns()
    {
        SessionCompleted completed = await RunAsync();

        Assert.Equal(2, completed.Images.Count);
    }

    [Fact]
    public async Task ARefusalSaysWhatToDo()
    {
        var request = new GenerateRequest { Settings = new GenerationSettings { Width = 257 } };

        Assert.Contains("settings.width: ", await TryAsync(request), StringComparison.Ordinal);
    }
}
