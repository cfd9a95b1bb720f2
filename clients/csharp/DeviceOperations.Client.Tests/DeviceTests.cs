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

        Device processor = Assert.Single(answer.Devices, device => device.DeviceId == "cpu:0");
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

        var kinds = new List<DeviceEventKind>();
        while (!kinds.Contains(DeviceEventKind.Heartbeat))
        {
            Assert.True(await call.ResponseStream.MoveNext(default));
            WatchDevicesResponse happened = call.ResponseStream.Current;
            kinds.Add(happened.Kind);
            if (happened.Kind != DeviceEventKind.Heartbeat)
            {
                Assert.Equal("cpu:0", happened.Device.DeviceId);
            }
        }

        Assert.Equal(DeviceEventKind.Added, kinds[0]);
        Assert.Single(kinds, DeviceEventKind.Added);
    }
}
