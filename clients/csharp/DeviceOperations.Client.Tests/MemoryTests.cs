using System.Security.Cryptography;
using DeviceOperations.V1;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class MemoryTests(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    private const int Chunk = 1 << 20;
    private const int Size = 3 * Chunk + 7;

    private static readonly MemoryPlace MainMemory = new() { Host = new HostMemory() };
    private static readonly MemoryPlace Processor = new() { DeviceId = "cpu" };

    [Fact]
    public async Task BytesAreWrittenCopiedToTheDeviceAndReadBack()
    {
        byte[] sent = RandomNumberGenerator.GetBytes(Size);
        Allocation main = await Allocate(MainMemory, Size);
        Allocation device = await Allocate(Processor, Size);

        Assert.Equal(Size, await Write(main.AllocationId, sent));
        await Copy(main.AllocationId, device.AllocationId);

        Assert.Equal("cpu:0", device.Place.DeviceId);
        Assert.Equal(sent, await Read(device.AllocationId));
        Assert.Equal(sent[Chunk..], await Read(device.AllocationId, Chunk));
        foreach (Allocation each in new[] { main, device })
        {
            Assert.Equal(Size, await Delete(each.AllocationId));
        }
    }

    [Fact]
    public async Task AnotherClientDoesNotSeeWhatThisOneHolds()
    {
        Allocation mine = await Allocate(MainMemory, 1);

        var refusal = await Assert.ThrowsAsync<RpcException>(async () =>
            await Memory().DeleteAllocationAsync(
                new DeleteAllocationRequest { AllocationId = mine.AllocationId },
                ServerUnderTest.AuthorizedAsAnother()));

        Assert.Equal(StatusCode.NotFound, refusal.StatusCode);
        Assert.Equal(ErrorReason.AllocationNotFound, refusal.GetServerError()?.Reason);
        Assert.Equal(1, await Delete(mine.AllocationId));
    }

    [Fact]
    public async Task MoreThanThereIsIsRefusedWithItsFigures()
    {
        var refusal = await Assert.ThrowsAsync<RpcException>(() => Allocate(Processor, 1L << 40));

        Assert.Equal(StatusCode.ResourceExhausted, refusal.StatusCode);
        var error = Assert.IsType<ServerError>(refusal.GetServerError());
        Assert.Equal(ErrorReason.ClientQuotaExceeded, error.Reason);
        Assert.True(long.Parse(error.Metadata["quota_bytes"], null) > 0);
    }

    private async Task<Allocation> Allocate(MemoryPlace place, long size)
    {
        var request = new CreateAllocationRequest
        {
            Place = place,
            SizeBytes = size,
            Lease = Duration.FromTimeSpan(TimeSpan.FromMinutes(1)),
            Label = "from C#",
        };
        return (await Memory().CreateAllocationAsync(request, Headers())).Allocation;
    }

    private async Task<long> Write(string allocation, byte[] bytes)
    {
        using var call = Memory().WriteAllocation(Headers());
        var header = new AllocationUpload
        {
            AllocationId = allocation,
            Upload = new UploadHeader { UploadId = Guid.NewGuid().ToString(), SizeBytes = bytes.Length },
        };
        await call.RequestStream.WriteAsync(new WriteAllocationRequest { Header = header });
        foreach (byte[] part in bytes.Chunk(Chunk))
        {
            await call.RequestStream.WriteAsync(
                new WriteAllocationRequest { Data = ByteString.CopyFrom(part) });
        }

        await call.RequestStream.WriteAsync(
            new WriteAllocationRequest { Completion = new UploadCompletion { Sha256 = Hash(bytes) } });
        await call.RequestStream.CompleteAsync();
        return (await call).WrittenBytes;
    }

    private async Task Copy(string source, string target)
    {
        var request = new CopyAllocationRequest
        {
            SourceAllocationId = source,
            TargetAllocationId = target,
        };
        using var call = Memory().CopyAllocation(request, Headers());
        await call.ResponseStream.WaitForCompletionAsync();
    }

    private async Task<byte[]> Read(string allocation, int offset = 0)
    {
        var request = new ReadAllocationRequest
        {
            AllocationId = allocation,
            OffsetBytes = offset,
        };
        using var call = Memory().ReadAllocation(request, Headers());
        using var bytes = new MemoryStream();
        string hash = "";
        await foreach (ReadAllocationResponse response in call.ResponseStream.ReadAllAsync())
        {
            Assert.Equal(offset + bytes.Length, response.OffsetBytes);
            response.Data.WriteTo(bytes);
            hash = response.Sha256;
        }

        byte[] all = bytes.ToArray();
        Assert.Equal(Hash(all), hash);
        return all;
    }

    private async Task<long> Delete(string allocation) =>
        (await Memory().DeleteAllocationAsync(
            new DeleteAllocationRequest { AllocationId = allocation }, Headers())).FreedBytes;

    private static string Hash(byte[] bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    private MemoryService.MemoryServiceClient Memory() => new(server.Channel);

    private static Metadata Headers() => ServerUnderTest.Authorized();
}
