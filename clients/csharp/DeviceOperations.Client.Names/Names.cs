namespace DeviceOperations.Client.Names;

/// <summary>The names that the programs here use, for a test that none is missing.</summary>
public static class Names
{
    /// <summary>Types of the contract and of the library.</summary>
    public static IReadOnlyList<System.Type> All => Services.Device.EveryName.Types;
}
