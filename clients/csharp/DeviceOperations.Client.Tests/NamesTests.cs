using DeviceOperations.V1;
using Google.Protobuf.Reflection;
using Xunit;

namespace DeviceOperations.Client.Tests;

/// <summary>What the library says about the contract holds for all of it.</summary>
public sealed class NamesTests
{
    [Fact]
    public void EveryPublicNameIsTriedBesideThoseOfOtherLibraries()
    {
        IEnumerable<Type> there = typeof(SessionEvent).Assembly.GetExportedTypes()
            .Where(type => !type.IsNested && type.Namespace != "DeviceOperations.Rpc");

        Assert.Equal(there.Select(type => type.Name).Order(), Names.Names.All.Select(type => type.Name).Distinct().Order());
    }

    [Fact]
    public void EveryStreamOfSessionEventsIsReadInTheSameWay()
    {
        IEnumerable<string> streams = Services()
            .SelectMany(service => service.Methods)
            .Where(method => method.IsServerStreaming)
            .Select(method => method.OutputType)
            .Where(response => response.FindFieldByName("event")?.MessageType == SessionEvent.Descriptor)
            .Select(response => response.ClrType.Name);

        IEnumerable<string> readable = typeof(ISessionResponse).Assembly.GetExportedTypes()
            .Where(type => type.IsAssignableTo(typeof(ISessionResponse)) && type.IsClass)
            .Select(type => type.Name);

        Assert.Equal(streams.Distinct().Order(), readable.Order());
    }

    private static IEnumerable<ServiceDescriptor> Services() =>
        typeof(SessionEvent).Assembly.GetExportedTypes()
            .Where(type => type.Name.EndsWith("Reflection", StringComparison.Ordinal))
            .Select(type => type.GetProperty("Descriptor")?.GetValue(null))
            .OfType<FileDescriptor>()
            .SelectMany(file => file.Services);
}
