using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using DeviceOperations.V1;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>Stores bytes that do not fit in a request.</summary>
public static class ArtifactUploads
{
    private const int ChunkBytes = 1 << 20; // the contract's most

    /// <summary>
    /// Stores a stream as an artifact. A lost connection goes on behind the bytes that the
    /// server has already; content that the server knows is not sent at all.
    /// </summary>
    /// <param name="artifacts">The client whose UploadArtifact is called.</param>
    /// <param name="content">What to store, from its beginning; it must be seekable.</param>
    /// <param name="headers">Call metadata with the token.</param>
    /// <param name="retention">
    /// How long to keep it after its last use; absent means as long as the server's setting says.
    /// </param>
    /// <param name="resume">How long to try; absent means the defaults.</param>
    /// <param name="cancellation">Ends the upload; what has arrived stays for some minutes.</param>
    /// <exception cref="RpcException">
    /// The server refused it, or no try of the last ones brought a byte across.
    /// </exception>
    public static async Task<Artifact> UploadAsync(
        this ArtifactService.ArtifactServiceClient artifacts,
        Stream content,
        Metadata? headers = null,
        TimeSpan? retention = null,
        ResumeOptions? resume = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(artifacts);
        ArgumentNullException.ThrowIfNull(content);
        resume ??= new ResumeOptions();
        content.Position = 0;
        byte[] hash = await SHA256.HashDataAsync(content, cancellation).ConfigureAwait(false);
        var header = new ArtifactUpload
        {
            Upload = new UploadHeader
            {
                UploadId = Guid.NewGuid().ToString(),
                SizeBytes = content.Length,
                Sha256 = Convert.ToHexString(hash).ToLowerInvariant(),
            },
            Retention = retention is { } kept ? Duration.FromTimeSpan(kept) : null,
        };
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                if (attempt > 0)
                {
                    long received = await ReceivedAsync(artifacts, header.Upload.UploadId, headers, cancellation)
                        .ConfigureAwait(false);
                    attempt = received > header.Upload.OffsetBytes ? 0 : attempt;
                    header.Upload.OffsetBytes = received;
                }

                return await SendAsync(artifacts, header, content, headers, cancellation).ConfigureAwait(false);
            }
            catch (RpcException lost) when (
                LostConnection.Is(lost)
                && attempt < resume.MaxAttempts
                && !cancellation.IsCancellationRequested)
            {
                await LostConnection.WaitAsync(attempt, lost, resume, cancellation).ConfigureAwait(false);
            }
        }
    }

    private static async Task<Artifact> SendAsync(
        ArtifactService.ArtifactServiceClient artifacts,
        ArtifactUpload header,
        Stream content,
        Metadata? headers,
        CancellationToken cancellation)
    {
        using var call = artifacts.UploadArtifact(headers, cancellationToken: cancellation);
        await foreach (UploadArtifactRequest message in MessagesAsync(header, content, cancellation)
            .ConfigureAwait(false))
        {
            if (!await TakenAsync(() => call.RequestStream.WriteAsync(message, cancellation)).ConfigureAwait(false))
            {
                break;
            }
        }

        await TakenAsync(call.RequestStream.CompleteAsync).ConfigureAwait(false);
        return (await call.ResponseAsync.ConfigureAwait(false)).Artifact;
    }

    private static async IAsyncEnumerable<UploadArtifactRequest> MessagesAsync(
        ArtifactUpload header,
        Stream content,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        yield return new UploadArtifactRequest { Header = header };
        content.Position = header.Upload.OffsetBytes;
        byte[] chunk = new byte[ChunkBytes];
        int read;
        while ((read = await content.ReadAtLeastAsync(
            chunk, ChunkBytes, throwOnEndOfStream: false, cancellation).ConfigureAwait(false)) > 0)
        {
            yield return new UploadArtifactRequest { Data = ByteString.CopyFrom(chunk, 0, read) };
        }

        yield return new UploadArtifactRequest
        {
            Completion = new UploadCompletion { Sha256 = header.Upload.Sha256 },
        };
    }

    // False when the call has ended before everything was sent: its answer says why.
    private static async Task<bool> TakenAsync(Func<Task> sending)
    {
        try
        {
            await sending().ConfigureAwait(false);
            return true;
        }
        catch (Exception ended) when (ended is RpcException or InvalidOperationException or IOException)
        {
            return false;
        }
    }

    private static async Task<long> ReceivedAsync(
        ArtifactService.ArtifactServiceClient artifacts,
        string uploadId,
        Metadata? headers,
        CancellationToken cancellation)
    {
        try
        {
            var answer = await artifacts.GetUploadAsync(
                new GetUploadRequest { UploadId = uploadId }, headers, cancellationToken: cancellation);
            return answer.Upload.ReceivedBytes;
        }
        catch (RpcException refusal) when (
            refusal.GetServerError()?.Reason == ErrorReason.UploadNotFound)
        {
            return 0; // not even its header arrived
        }
    }
}
