using System.Runtime.CompilerServices;
using DeviceOperations.V1;
using Grpc.Core;

namespace DeviceOperations.Client;

/// <summary>Follows a session across lost connections.</summary>
public static class SessionResumption
{
    /// <summary>
    /// The events of a session to its end. A lost connection is made anew and goes on after the
    /// last event; the chunks of a picture that was under way come again from its first byte.
    /// </summary>
    /// <param name="sessions">The client whose WatchSession is called.</param>
    /// <param name="request">
    /// Which session, and from which entry. It is sent again with a later from_sequence.
    /// </param>
    /// <param name="headers">Call metadata with the token.</param>
    /// <param name="resume">How long to try; absent means the defaults.</param>
    /// <param name="cancellation">Ends the watching, not the session.</param>
    /// <exception cref="RpcException">
    /// The server refused to show the session, or no try of the last ones reached it.
    /// </exception>
    public static IAsyncEnumerable<SessionEvent> FollowSessionAsync(
        this ProcessingService.ProcessingServiceClient sessions,
        WatchSessionRequest request,
        Metadata? headers = null,
        ResumeOptions? resume = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(sessions);
        ArgumentNullException.ThrowIfNull(request);
        Watch watch = new(sessions, request, headers);
        return FollowAsync(watch.OpenAsync(default), watch, resume ?? new(), cancellation);
    }

    /// <summary>
    /// The events of a call that runs a session, to the session's end. A lost connection goes on
    /// with WatchSession after the last event. The session must outlive the connection:
    /// start it with <see cref="OnDisconnect.Detach"/>. A connection lost before the first
    /// event is thrown; send the request again with the same request_id.
    /// </summary>
    /// <param name="stream">The responses of the call: <c>call.ResponseStream</c>.</param>
    /// <param name="sessions">The client whose WatchSession is called.</param>
    /// <param name="headers">Call metadata with the token.</param>
    /// <param name="delivery">As in the request.</param>
    /// <param name="resume">How long to try; absent means the defaults.</param>
    /// <param name="cancellation">Ends the call, or the watching.</param>
    /// <typeparam name="TResponse">The response of the method.</typeparam>
    /// <exception cref="RpcException">
    /// The call or the session failed, or no try of the last ones reached the server.
    /// </exception>
    public static IAsyncEnumerable<SessionEvent> ReadEventsAsync<TResponse>(
        this IAsyncStreamReader<TResponse> stream,
        ProcessingService.ProcessingServiceClient sessions,
        Metadata? headers = null,
        DeliveryOptions? delivery = null,
        ResumeOptions? resume = null,
        CancellationToken cancellation = default)
        where TResponse : ISessionResponse
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(sessions);
        Watch watch = new(sessions, new WatchSessionRequest { Delivery = delivery }, headers);
        return FollowAsync(stream.ReadEventsAsync(default), watch, resume ?? new(), cancellation);
    }

    private static async IAsyncEnumerable<SessionEvent> FollowAsync(
        IAsyncEnumerable<SessionEvent> first,
        Watch watch,
        ResumeOptions resume,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        IAsyncEnumerable<SessionEvent> events = first;
        for (int attempt = 1; ; attempt++)
        {
            using var silence = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            await using var reader = events.GetAsyncEnumerator(silence.Token);
            RpcException? lost;
            while ((lost = await MoveAsync(reader, silence, resume, cancellation).ConfigureAwait(false)) is null)
            {
                attempt = 0;
                watch.Seen(reader.Current);
                yield return reader.Current;
                if (reader.Current.IsTerminal())
                {
                    yield break;
                }
            }

            if (attempt >= resume.MaxAttempts || !watch.IsKnown)
            {
                throw lost;
            }

            await LostConnection.WaitAsync(attempt, lost, resume, cancellation).ConfigureAwait(false);
            events = watch.OpenAsync(default);
        }
    }

    // Null when there is a next event. Throws what a new connection would not mend.
    private static async Task<RpcException?> MoveAsync(
        IAsyncEnumerator<SessionEvent> reader,
        CancellationTokenSource silence,
        ResumeOptions resume,
        CancellationToken cancellation)
    {
        silence.CancelAfter(resume.MaxSilence);
        try
        {
            bool moved = await reader.MoveNextAsync().ConfigureAwait(false);
            silence.CancelAfter(Timeout.InfiniteTimeSpan); // the reader's own time does not count
            return moved ? null : Lost("The stream ended before its session did.");
        }
        catch (Exception failure) when (
            failure is RpcException or OperationCanceledException
            && silence.IsCancellationRequested
            && !cancellation.IsCancellationRequested)
        {
            return Lost($"No event and no heartbeat for {resume.MaxSilence.TotalSeconds} s.");
        }
        catch (RpcException failure) when (
            LostConnection.Is(failure) && !cancellation.IsCancellationRequested)
        {
            return failure;
        }
    }

    private static RpcException Lost(string detail) => new(new Status(StatusCode.Unavailable, detail));

    private sealed class Watch(
        ProcessingService.ProcessingServiceClient sessions,
        WatchSessionRequest asked,
        Metadata? headers)
    {
        private readonly WatchSessionRequest request = asked.Clone();

        public bool IsKnown => request.SessionId.Length > 0;

        // Events between entries repeat the number of the entry before them.
        public void Seen(SessionEvent happened)
        {
            request.SessionId = happened.SessionId;
            request.FromSequence = happened.Sequence + 1;
        }

        public async IAsyncEnumerable<SessionEvent> OpenAsync(
            [EnumeratorCancellation] CancellationToken cancellation)
        {
            using var call = sessions.WatchSession(request, headers, cancellationToken: cancellation);
            await foreach (SessionEvent happened in call.ResponseStream
                .ReadEventsAsync(cancellation).ConfigureAwait(false))
            {
                yield return happened;
            }
        }
    }
}
