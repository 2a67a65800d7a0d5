using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>Calls a bridge. Failures are <see cref="RpcException"/>; the caller's own cancellation is an
    /// <see cref="OperationCanceledException"/>. Awaits plainly: in Unity every continuation is on the thread that
    /// called. </summary>
    public sealed class MotionClient : IDisposable
    {
        /// <summary>The version of the wire that this client was written for.</summary>
        public const string WireVersion = "1.2";

        readonly IByteTransport _transport;
        readonly string _token;

        /// <summary>Calls over <paramref name="transport"/>, which is disposed with the client.</summary>
        /// <param name="transport">Carries the bytes.</param>
        /// <param name="token">Sent as bearer token; none if null or empty.</param>
        public MotionClient(IByteTransport transport, string token = null) => (_transport, _token) = (transport, token);

        /// <summary>Asks which model the server runs, and what it refuses to go beyond.</summary>
        public async Task<GetModelResponse> GetModelAsync(TimeSpan? deadline = null,
            CancellationToken cancellation = default)
        {
            var answer = await AskAsync(MotionService.GetModel, new GetModelRequest(), deadline, cancellation);
            var response = Parsed(() => GetModelResponse.Parse(answer.Span));
            CheckWireVersion(response.Model);
            return response;
        }

        /// <summary>Writes the plan of one sentence, to read and edit before anything moves: its beats go into
        /// <see cref="StreamMotionRequest.Beats"/>.</summary>
        public async Task<PlanMotionResponse> PlanMotionAsync(PlanMotionRequest request, TimeSpan? deadline = null,
            CancellationToken cancellation = default)
        {
            var answer = await AskAsync(MotionService.PlanMotion, request, deadline, cancellation);
            var response = Parsed(() => PlanMotionResponse.Parse(answer.Span));
            if (response.Plan == null)
                throw new RpcException(StatusCode.Internal, "PlanMotion: an answer without a plan");
            return response;
        }

        /// <summary>Streams the motion of one sentence: header, plan, chunks, summary, checked for order and for gaps.
        /// Ends after the summary; a stream without one ends with <see cref="StatusCode.Unavailable"/>. Leaving the
        /// loop early cancels the call.</summary>
        public IAsyncEnumerable<MotionEvent> StreamMotionAsync(StreamMotionRequest request, TimeSpan? deadline = null,
            CancellationToken cancellation = default) =>
            EventsAsync(MotionService.StreamMotion, request, bytes => StreamMotionResponse.Parse(bytes.Span).Event,
                deadline, cancellation);

        /// <summary>Streams the frames of given codes: header, chunks, summary, as
        /// <see cref="StreamMotionAsync"/> does. The same codes give the same frames.</summary>
        public IAsyncEnumerable<MotionEvent> DecodeMotionAsync(DecodeMotionRequest request, TimeSpan? deadline = null,
            CancellationToken cancellation = default) =>
            EventsAsync(MotionService.DecodeMotion, request, bytes => DecodeMotionResponse.Parse(bytes.Span).Event,
                deadline, cancellation);

        /// <summary>Gives a motion another turn: forgets <paramref name="motion"/> from <paramref name="fromCode"/> on,
        /// and streams what <paramref name="request"/> makes of the codes before it. Frames are counted on from there,
        /// and recorded.</summary>
        /// <param name="motion">What was received so far.</param>
        /// <param name="fromCode">The first code that is not shown yet and may be replaced.</param>
        /// <param name="request">What comes next; its history is set here.</param>
        /// <param name="limits">The server's, from <see cref="GetModelAsync"/>.</param>
        /// <param name="deadline">For the whole stream.</param>
        /// <param name="cancellation">Ends it.</param>
        public async IAsyncEnumerable<MotionEvent> SteerAsync(RecordedMotion motion, int fromCode,
            StreamMotionRequest request, Limits limits, TimeSpan? deadline = null,
            [EnumeratorCancellation] CancellationToken cancellation = default)
        {
            motion.BeginTurn(fromCode);
            request = StreamMotionRequest.Parse(request.ToBytes());
            request.History = null;
            await foreach (var next in ResumeAsync(motion, request, limits, deadline, cancellation)) yield return next;
        }

        /// <summary>Takes up a motion that broke off, from the last code that came, with what was left of its plan and
        /// time: on another server, or the same one after it was started again. Nothing that was received is sent again.
        /// After <see cref="RecordedMotion.BeginTurn"/> it is the request of the new turn that is taken up.</summary>
        /// <param name="motion">What was received so far.</param>
        /// <param name="request">The request that began it.</param>
        /// <param name="limits">The server's, from <see cref="GetModelAsync"/>.</param>
        /// <param name="deadline">For the whole stream.</param>
        /// <param name="cancellation">Ends it.</param>
        public async IAsyncEnumerable<MotionEvent> ResumeAsync(RecordedMotion motion, StreamMotionRequest request,
            Limits limits, TimeSpan? deadline = null, [EnumeratorCancellation] CancellationToken cancellation = default)
        {
            bool hasCodes = motion.Chunks.Count > 0;
            var rest = motion.Rest(request, limits, out int fromCode);
            if (rest == null)
            {
                yield return motion.Close();
                yield break;
            }
            await foreach (var next in StreamMotionAsync(rest, deadline, cancellation))
            {
                if (next.Header != null && hasCodes) RequireSameBundle(motion.Header.Model, next.Header.Model);
                if (motion.Continue(next, fromCode)) yield return next;
            }
        }

        /// <summary>Closes the transport.</summary>
        public void Dispose() => _transport.Dispose();

        async Task<ReadOnlyMemory<byte>> AskAsync(string path, IWireMessage request, TimeSpan? deadline,
            CancellationToken cancellation)
        {
            using var call = new GrpcCall(_transport, path, request, _token, deadline, cancellation);
            if (!await call.ReadAsync())
                throw new RpcException(StatusCode.Internal, $"{path}: status OK without an answer");
            var answer = call.Current.ToArray();
            if (await call.ReadAsync()) throw new RpcException(StatusCode.Internal, $"{path}: more than one answer");
            return answer;
        }

        async IAsyncEnumerable<MotionEvent> EventsAsync(string path, IWireMessage request,
            Func<ReadOnlyMemory<byte>, MotionEvent> parse, TimeSpan? deadline,
            [EnumeratorCancellation] CancellationToken cancellation)
        {
            using var call = new GrpcCall(_transport, path, request, _token, deadline, cancellation);
            var order = new StreamOrder();
            while (await call.ReadAsync())
            {
                // What has arrived already is nothing for a caller who has turned away.
                cancellation.ThrowIfCancellationRequested();
                var motionEvent = Parsed(() => parse(call.Current));
                // A server that has grown may send events that this client does not know.
                if (motionEvent == null || motionEvent.EventCase == MotionEvent.EventOneofCase.None) continue;
                order.Add(motionEvent);
                if (motionEvent.Header != null) CheckWireVersion(motionEvent.Header.Model);
                yield return motionEvent;
            }
            order.End();
        }

        static T Parsed<T>(Func<T> parse)
        {
            try
            {
                return parse();
            }
            catch (WireFormatException error)
            {
                throw new RpcException(StatusCode.Internal, $"a message does not parse: {error.Message}", error);
            }
        }

        // The first number must be the same. The second counts additions: a server may know more than we do, not less,
        // or it would drop what we ask for without a word.
        static void CheckWireVersion(Model model)
        {
            string theirs = model?.WireVersion ?? "";
            if (TryVersion(theirs, out int major, out int grown) &&
                TryVersion(WireVersion, out int ourMajor, out int ours) &&
                major == ourMajor && grown >= ours) return;
            throw new RpcException(StatusCode.FailedPrecondition,
                $"the server speaks wire version '{theirs}', this client '{WireVersion}': update the older of the two");
        }

        static void RequireSameBundle(Model ours, Model theirs)
        {
            if (ours.Revision != theirs.Revision)
                throw new RpcException(StatusCode.FailedPrecondition,
                    $"the motion was made by {ours.ModelId} ({ours.Revision}), the server runs {theirs.ModelId} " +
                    $"({theirs.Revision}): its codes mean other motions there; begin anew");
        }

        static bool TryVersion(string text, out int major, out int grown)
        {
            grown = 0;
            int dot = text.IndexOf('.');
            if (dot < 0) dot = text.Length;
            string rest = dot < text.Length ? text.Substring(dot + 1) : "";
            return int.TryParse(text.Substring(0, dot), NumberStyles.None, CultureInfo.InvariantCulture, out major) &&
                int.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out grown);
        }
    }
}
