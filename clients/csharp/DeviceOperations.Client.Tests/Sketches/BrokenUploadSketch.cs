using System.Security.Cryptography;
using DeviceOperations.V1;
using Xunit;

namespace DeviceOperations.Client.Tests.Sketches;

public sealed class BrokenUploadSketch(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    private const int Chunk = 1 << 20;
    private const int Size = 6 * Chunk + 11;

    private static readonly ResumeOptions Soon = new() { FirstDelay = TimeSpan.FromMilliseconds(10) };

    [Fact]
    public async Task AnUploadGoesOnBehindTheBytesThatArrived()
    {
        using var wire = new BreakableWire(ServerUnderTest.Address);
        var shop = new Orchestrator(wire.Channel, ServerUnderTest.Authorized());
        byte[] bytes = RandomNumberGenerator.GetBytes(Size);

        // The Wi-Fi is gone when two thirds are read, once.
        using var content = new Interrupted(bytes, at: 4 * Chunk, wire.Cut);
        Artifact artifact = await shop.Artifacts.UploadAsync(content, shop.Headers, resume: Soon);

        Assert.Equal(Size, artifact.SizeBytes);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes)), artifact.ArtifactId);
        Assert.True(content.WentBackTo > 0, "It began again from the first byte.");

        // Again, by somebody who does not know that it is there: not one chunk is sent.
        var again = new Orchestrator(server.Channel, ServerUnderTest.Authorized());
        Artifact same = await again.Artifacts.UploadAsync(new MemoryStream(bytes), again.Headers);
        Assert.Equal(artifact.ArtifactId, same.ArtifactId);
        Assert.Equal(artifact.CreateTime, same.CreateTime);
    }

    [Fact]
    public async Task WhatIsAMessageTooFarIsRefusedAndNotTriedAgain()
    {
        var shop = new Orchestrator(server.Channel, ServerUnderTest.Authorized());

        var refusal = await Assert.ThrowsAsync<Grpc.Core.RpcException>(() =>
            shop.Artifacts.UploadAsync(new MemoryStream([]), shop.Headers));

        var violation = Assert.Single(refusal.GetServerError()!.Violations);
        Assert.Equal("header.upload.size_bytes", violation.Field);
    }

    /// <summary>Bytes of which reading does something when it comes by, the second time around.</summary>
    private sealed class Interrupted(byte[] bytes, long at, Action interrupt) : MemoryStream(bytes)
    {
        private int rewinds;
        private bool done;

        public long WentBackTo { get; private set; } = -1;

        public override long Position
        {
            get => base.Position;
            set
            {
                rewinds++;
                WentBackTo = done ? value : WentBackTo;
                base.Position = value;
            }
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            // First it is hashed, then sent.
            if (rewinds == 2 && !done && Position >= at)
            {
                done = true;
                interrupt();
            }

            return base.ReadAsync(buffer, cancellationToken);
        }
    }
}
