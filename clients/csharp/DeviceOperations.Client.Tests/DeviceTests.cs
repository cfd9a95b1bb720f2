using DeviceOperations.V1;
using Xunit;

namespace DeviceOperations.Client.Tests;

public sealed class DeviceTests(ServerUnderTest server) : IClassFixture<ServerUnderTest>
{
    [Fact]
    public async Task TheProcessorIsListedAndReadyOrOnItsWay()
    {
        var devices = new DeviceService.DeviceServiceClient(server.Channel);

        ListDevicesResponse answer = await devices.ListDevicesAsync(
            new ListDevicesRequest(),
            ServerUnderTest.Authorized(),
            deadline: DateTime.UtcNow.AddSeconds(30));

        DeviceInfo processor = Assert.Single(answer.Devices, device => device.DeviceId == "cpu:0");
        Assert.Equal(DeviceKind.Cpu, processor.Kind);
        Assert.Contains(processor.State, new[] { DeviceState.Ready, DeviceState.Starting });
        Assert.True(processor.TotalMemory.ValueBytes > 0);
        Assert.Single(answer.Devices, device => device.IsDefault);
    }

    [Fact]
    public async Task WatchingBeginsWithEveryDeviceThereIs()
    {
        var devices = new DeviceService.DeviceServiceClient(server.Channel);
        using var call = devices.WatchDevices(
            new WatchDevicesRequest { DeviceId = "CPU" },
            ServerUnderTest.Authorized(),
            deadline: DateTime.UtcNow.AddSeconds(30));

        var there = new List<string>();
        while (await call.ResponseStream.MoveNext(default))
        {
            WatchDevicesResponse happened = call.ResponseStream.Current;
            if (happened.Kind == DeviceEventKind.SnapshotEnd)
            {
                break;
            }

            Assert.Equal(DeviceEventKind.Added, happened.Kind);
            there.Add(happened.Device.DeviceId);
        }

        Assert.Equal("cpu:0", Assert.Single(there));
    }
}
