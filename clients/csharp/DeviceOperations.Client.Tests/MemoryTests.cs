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

        Assert.Equal((ulong)Size, await Write(main.AllocationId, sent));
        SessionEvent last = await Copy(main.AllocationId, device.AllocationId);

        Assert.Equal(SessionEvent.EventOneofCase.Completed, last.EventCase);
        Assert.Equal("cpu:0", device.Place.DeviceId);
        Assert.Equal(sent, await Read(device.AllocationId));
        Assert.Equal(sent[Chunk..], await Read(device.AllocationId, Chunk));
        foreach (Allocation each in new[] { main, device })
        {
            Assert.Equal((ulong)Size, await Deallocate(each.AllocationId));
        }
    }

    [Fact]
    public async Task AnotherClientDoesNotSeeWhatThisOneHolds()
    {
        Allocation mine = await Allocate(MainMemory, 1);

        var refusal = await Assert.ThrowsAsync<RpcException>(async () =>
            await Memory().DeallocateAsync(
                new DeallocateRequest { AllocationId = mine.AllocationId },
                ServerUnderTest.AuthorizedAsAnother()));

        Assert.Equal(StatusCode.NotFound, refusal.StatusCode);
        Assert.Equal(ErrorReason.AllocationNotFound, refusal.GetServerError()?.Reason);
        Assert.Equal(1UL, await Deallocate(mine.AllocationId));
    }

    [Fact]
    public async Task MoreThanThereIsIsRefusedWithItsFigures()
    {
        var refusal = await Assert.ThrowsAsync<RpcException>(() => Allocate(Processor, 1L << 40));

        Assert.Equal(StatusCode.ResourceExhausted, refusal.StatusCode);
        var error = Assert.IsType<ServerError>(refusal.GetServerError());
        Assert.Equal(ErrorReason.ClientQuotaExceeded, error.Reason);
        Assert.True(ulong.Parse(error.Metadata["quota_bytes"], null) > 0);
    }

    private async Task<Allocation> Allocate(MemoryPlace place, long size)
    {
        var request = new AllocateRequest
        {
            Place = place,
            SizeBytes = (ulong)size,
            Lease = Duration.FromTimeSpan(TimeSpan.FromMinutes(1)),
            Label = "from C#",
        };
        return (await Memory().AllocateAsync(request, Headers())).Allocation;
    }

    private async Task<ulong> Write(string allocation, byte[] bytes)
    {
        using var call = Memory().WriteAllocation(Headers());
        var header = new WriteAllocationHeader { AllocationId = allocation };
        await call.RequestStream.WriteAsync(new WriteAllocationRequest { Header = header });
        foreach (byte[] part in bytes.Chunk(Chunk))
        {
            await call.RequestStream.WriteAsync(
                new WriteAllocationRequest { Data = ByteString.CopyFrom(part) });
        }

        await call.RequestStream.WriteAsync(
            new WriteAllocationRequest { CompletionSha256 = Hash(bytes) });
        await call.RequestStream.CompleteAsync();
        return (await call).WrittenBytes;
    }

    private async Task<SessionEvent> Copy(string source, string target)
    {
        var request = new CopyRequest { SourceAllocationId = source, TargetAllocationId = target };
        using var call = Memory().Copy(request, Headers());
        SessionEvent? last = null;
        await foreach (CopyResponse response in call.ResponseStream.ReadAllAsync())
        {
            last = response.Event;
        }

        return Assert.IsType<SessionEvent>(last);
    }

    private async Task<byte[]> Read(string allocation, int offset = 0)
    {
        var request = new ReadAllocationRequest
        {
            AllocationId = allocation,
            OffsetBytes = (ulong)offset,
        };
        using var call = Memory().ReadAllocation(request, Headers());
        using var bytes = new MemoryStream();
        string hash = "";
        await foreach (ReadAllocationResponse response in call.ResponseStream.ReadAllAsync())
        {
            Assert.Equal((ulong)(offset + bytes.Length), response.OffsetBytes);
            response.Data.WriteTo(bytes);
            hash = response.Sha256;
        }

        byte[] all = bytes.ToArray();
        Assert.Equal(Hash(all), hash);
        return all;
    }

    private async Task<ulong> Deallocate(string allocation) =>
        (await Memory().DeallocateAsync(
            new DeallocateRequest { AllocationId = allocation }, Headers())).FreedBytes;

    private static string Hash(byte[] bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    private MemoryService.MemoryServiceClient Memory() => new(server.Channel);

    private static Metadata Headers() => ServerUnderTest.Authorized();
}
