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
        public const string WireVersion = "1.0";

        readonly IByteTransport _transport;
        readonly string _token;

        /// <summary>Calls over <paramref name="transport"/>, which is disposed with the client.</summary>
        /// <param name="transport">Carries the bytes.</param>
        /// <param name="token">Sent as bearer token; none if null or empty.</param>
        public MotionClient(IByteTransport transport, string token = null) => (_transport, _token) = (transport, token);

        /// <summary>Asks which model the server runs.</summary>
        public async Task<GetModelResponse> GetModelAsync(TimeSpan? deadline = null,
            CancellationToken cancellation = default)
        {
            using var call = new GrpcCall(_transport, MotionService.GetModel, new GetModelRequest(), _token, deadline,
                cancellation);
            if (!await call.ReadAsync())
                throw new RpcException(StatusCode.Internal, "GetModel: status OK without an answer");
            var response = Parsed(() => GetModelResponse.Parse(call.Current.Span));
            CheckWireVersion(response.Model);
            if (await call.ReadAsync()) throw new RpcException(StatusCode.Internal, "GetModel: more than one answer");
            return response;
        }

        /// <summary>Streams the motion of one sentence: header, plan, chunks, summary, checked for order and for gaps.
        /// Ends after the summary; a stream without one ends with <see cref="StatusCode.Unavailable"/>. Leaving the
        /// loop early cancels the call.</summary>
        public async IAsyncEnumerable<MotionEvent> StreamMotionAsync(StreamMotionRequest request,
            TimeSpan? deadline = null, [EnumeratorCancellation] CancellationToken cancellation = default)
        {
            using var call = new GrpcCall(_transport, MotionService.StreamMotion, request, _token, deadline,
                cancellation);
            var order = new StreamOrder();
            while (await call.ReadAsync())
            {
                var motionEvent = Parsed(() => StreamMotionResponse.Parse(call.Current.Span)).Event;
                // A server that has grown may send events that this client does not know.
                if (motionEvent == null || motionEvent.EventCase == MotionEvent.EventOneofCase.None) continue;
                order.Add(motionEvent);
                if (motionEvent.Header != null) CheckWireVersion(motionEvent.Header.Model);
                yield return motionEvent;
            }
            order.End();
        }

        /// <summary>Closes the transport.</summary>
        public void Dispose() => _transport.Dispose();

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
