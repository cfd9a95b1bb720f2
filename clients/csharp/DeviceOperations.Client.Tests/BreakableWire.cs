using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;

namespace DeviceOperations.Client.Tests;

/// <summary>A way to the server that can be cut, or fall silent, in the middle of a call.</summary>
public sealed class BreakableWire : IDisposable
{
    private readonly string server;
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly Lock gate = new();
    private readonly List<TcpClient> ends = [];
    private CancellationTokenSource flowing = new();

    /// <summary>Opens the way.</summary>
    /// <param name="server">"127.0.0.1:50051".</param>
    public BreakableWire(string server)
    {
        this.server = server;
        listener.Start();
        Channel = GrpcChannel.ForAddress($"http://{listener.LocalEndpoint}", new GrpcChannelOptions
        {
            HttpHandler = new SocketsHttpHandler
            {
                KeepAlivePingDelay = TimeSpan.FromSeconds(3),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(2),
            },
        });
        _ = AcceptAsync();
    }

    /// <summary>A channel over this way.</summary>
    public GrpcChannel Channel { get; }

    /// <summary>Ends every connection there is; new ones are let through.</summary>
    public void Cut()
    {
        lock (gate)
        {
            ends.ForEach(end => end.Dispose());
            ends.Clear();
        }
    }

    /// <summary>
    /// Carries nothing any more over the connections there are, and ends none: what a client
    /// sees when the machine behind is gone. New connections are let through.
    /// </summary>
    public void Silence()
    {
        lock (gate)
        {
            flowing.Cancel();
            flowing = new CancellationTokenSource();
        }
    }

    /// <summary>Lets no new connection through.</summary>
    public void Close() => listener.Stop();

    /// <inheritdoc/>
    public void Dispose()
    {
        Close();
        Cut();
        Channel.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                TcpClient near = await listener.AcceptTcpClientAsync();
                var far = new TcpClient();
                await far.ConnectAsync(IPEndPoint.Parse(server));
                lock (gate)
                {
                    ends.AddRange([near, far]);
                    _ = CarryAsync(near, far, flowing.Token);
                    _ = CarryAsync(far, near, flowing.Token);
                }
            }
        }
        catch (Exception closed) when (closed is SocketException or ObjectDisposedException)
        {
            // Close ended the listener.
        }
    }

    private static async Task CarryAsync(TcpClient from, TcpClient to, CancellationToken flowing)
    {
        try
        {
            await from.GetStream().CopyToAsync(to.GetStream(), flowing);
            to.Client.Shutdown(SocketShutdown.Send);
        }
        catch (Exception ended) when (
            ended is IOException or SocketException or ObjectDisposedException
                or OperationCanceledException or InvalidOperationException)
        {
            // Cut disposed an end, or Silence stopped the carrying.
        }
    }
}
