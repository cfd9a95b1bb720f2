namespace DeviceOperations.Client;

/// <summary>How long a lost connection is tried anew. The defaults outlast a restart.</summary>
public sealed record ResumeOptions
{
    /// <summary>Tries in a row that bring no event; then the last failure is thrown.</summary>
    public int MaxAttempts { get; init; } = 8;

    /// <summary>Wait before the first try; each further one waits twice as long.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromSeconds(0.5);

    /// <summary>Longest wait between two tries, where the server asks for no longer one.</summary>
    public TimeSpan MaxDelay { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// A connection without any event for so long counts as lost. The server sends a heartbeat
    /// after 5 seconds of silence.
    /// </summary>
    public TimeSpan MaxSilence { get; init; } = TimeSpan.FromSeconds(30);
}
