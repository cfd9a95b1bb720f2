using System.Runtime.CompilerServices;
using DeviceOperations.V1;
using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>Reads streams of session events, those of every service alike.</summary>
public static class SessionStreamExtensions
{
    /// <summary>The events of a stream. It ends, or fails, as the stream does.</summary>
    /// <param name="stream">The responses of a call: <c>call.ResponseStream</c>.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <typeparam name="TResponse">The response of the method.</typeparam>
    /// <exception cref="RpcException">The call failed.</exception>
    public static async IAsyncEnumerable<SessionEvent> ReadEventsAsync<TResponse>(
        this IAsyncStreamReader<TResponse> stream,
        [EnumeratorCancellation] CancellationToken cancellation = default)
        where TResponse : ISessionResponse
    {
        ArgumentNullException.ThrowIfNull(stream);
        while (await stream.MoveNext(cancellation).ConfigureAwait(false))
        {
            yield return stream.Current.Event;
        }
    }

    /// <summary>Reads a stream until its session has ended.</summary>
    /// <param name="stream">The responses of a call: <c>call.ResponseStream</c>.</param>
    /// <param name="happened">Gets every event, in order, before the next one is read.</param>
    /// <param name="cancellation">Ends the call.</param>
    /// <typeparam name="TResponse">The response of the method.</typeparam>
    /// <returns>What the session came to.</returns>
    /// <exception cref="ServerErrorException">
    /// The session failed or was cancelled, or the server refused the call.
    /// </exception>
    /// <exception cref="RpcException">The connection failed, or this client cancelled.</exception>
    public static Task<SessionCompleted> WaitForCompletionAsync<TResponse>(
        this IAsyncStreamReader<TResponse> stream,
        Action<SessionEvent>? happened = null,
        CancellationToken cancellation = default)
        where TResponse : ISessionResponse =>
        stream.ReadEventsAsync(cancellation).WaitForCompletionAsync(happened, cancellation);

    /// <summary>Reads events until their session has ended.</summary>
    /// <param name="events">The events of one session.</param>
    /// <param name="happened">Gets every event, in order, before the next one is read.</param>
    /// <param name="cancellation">Ends the reading.</param>
    /// <returns>What the session came to.</returns>
    /// <exception cref="ServerErrorException">
    /// The session failed or was cancelled, or the server refused the call.
    /// </exception>
    /// <exception cref="RpcException">The connection failed, or this client cancelled.</exception>
    public static async Task<SessionCompleted> WaitForCompletionAsync(
        this IAsyncEnumerable<SessionEvent> events,
        Action<SessionEvent>? happened = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(events);
        try
        {
            await foreach (SessionEvent one in events.WithCancellation(cancellation).ConfigureAwait(false))
            {
                happened?.Invoke(one);
                switch (one.EventCase)
                {
                    case SessionEvent.EventOneofCase.Completed:
                        return one.Completed;
                    case SessionEvent.EventOneofCase.Failed:
                        throw new ServerErrorException(ServerError.From(one.Failed.Failure));
                    case SessionEvent.EventOneofCase.Cancelled:
                        throw new ServerErrorException(ServerError.From(one.Cancelled));
                }
            }
        }
        catch (RpcException refusal)
            when (refusal is not ServerErrorException && refusal.GetServerError() is { } error)
        {
            throw new ServerErrorException(error, refusal);
        }

        throw new InvalidDataException("The stream ended before its session did.");
    }

    /// <summary>Whether the event is the last one of its session.</summary>
    /// <param name="happened">An event.</param>
    public static bool IsTerminal(this SessionEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        return happened.EventCase
            is SessionEvent.EventOneofCase.Completed
            or SessionEvent.EventOneofCase.Failed
            or SessionEvent.EventOneofCase.Cancelled;
    }
}
