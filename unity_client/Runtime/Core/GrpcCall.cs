using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Threading;
using System.Threading.Tasks;

namespace MotionR1.Core
{
    /// <summary>One call: a request goes out, messages come back, a status closes it.</summary>
    sealed class GrpcCall : IDisposable
    {
        const int HttpOk = 200;
        const int MaxTimeout = 99_999_999;
        const string StatusHeader = "grpc-status";
        const string MessageHeader = "grpc-message";
        const string DetailsHeader = "grpc-status-details-bin";

        readonly IByteTransport _transport;
        readonly ByteRequest _request;
        readonly CancellationToken _caller;
        readonly CancellationTokenSource _stop;
        readonly GrpcBody _body = new GrpcBody();
        readonly byte[] _buffer = new byte[16 << 10];
        CancellationTokenRegistration _release;
        IByteResponse _response;
        bool _done;

        /// <summary>Prepares the call; the first <see cref="ReadAsync"/> sends it.</summary>
        public GrpcCall(IByteTransport transport, string path, IWireMessage request, string token, TimeSpan? deadline,
            CancellationToken caller)
        {
            _transport = transport;
            _caller = caller;
            _request = new ByteRequest(path, Headers(transport.Protocol, token, deadline), GrpcBody.Frame(request));
            _stop = CancellationTokenSource.CreateLinkedTokenSource(caller);
            if (deadline.HasValue) _stop.CancelAfter(deadline.Value);
        }

        /// <summary>The message that was read; good until the next read.</summary>
        public ReadOnlyMemory<byte> Current { get; private set; }

        /// <summary>Reads the next message; false after the last one, when the status is OK. Throws
        /// <see cref="RpcException"/> for any other status, and <see cref="OperationCanceledException"/> when the
        /// caller cancels.</summary>
        public async Task<bool> ReadAsync()
        {
            if (_done) return false;
            try
            {
                if (_response == null) await StartAsync();
                while (true)
                {
                    if (_body.TryRead(out var message))
                    {
                        Current = message;
                        return true;
                    }
                    int count = _body.Trailers == null ? await _response.ReadAsync(_buffer, _stop.Token) : 0;
                    if (count == 0) break;
                    _body.Append(new ReadOnlySpan<byte>(_buffer, 0, count));
                }
                _body.End();
            }
            catch (Exception error) when (_caller.IsCancellationRequested)
            {
                throw new OperationCanceledException("the call was cancelled", error, _caller);
            }
            catch (Exception error) when (_stop.IsCancellationRequested)
            {
                throw new RpcException(StatusCode.DeadlineExceeded, "the deadline passed", error);
            }
            catch (IOException error)
            {
                throw new RpcException(StatusCode.Unavailable, error.Message, error);
            }
            _done = true;
            CheckStatus(Last);
            return false;
        }

        /// <summary>Ends the call, also while a read is waiting.</summary>
        public void Dispose()
        {
            _stop.Cancel();
            _release.Dispose();
            _response?.Dispose();
            _stop.Dispose();
        }

        async Task StartAsync()
        {
            _response = await _transport.SendAsync(_request, _stop.Token);
            // A read that is blocked in the system does not always see the token: closing the response wakes it.
            _release = _stop.Token.Register(_response.Dispose);
            string status = _response.Header(StatusHeader);
            if (status != null) CheckStatus(_response.Header);
            else if (_response.HttpStatus != HttpOk)
                throw new RpcException(FromHttp(_response.HttpStatus), $"{_request.Path}: HTTP {_response.HttpStatus}");
            string type = _response.Header("content-type") ?? "";
            if (!type.StartsWith("application/grpc", StringComparison.OrdinalIgnoreCase))
                throw new RpcException(StatusCode.Unknown,
                    $"expected gRPC, got content type '{type}': is this the bridge?");
        }

        string Last(string name)
        {
            if (_body.Trailers != null) return _body.Trailers.TryGetValue(name, out string value) ? value : null;
            return _response.Trailer(name) ?? _response.Header(name);
        }

        static void CheckStatus(Func<string, string> header)
        {
            var (status, message) = (header(StatusHeader), header(MessageHeader));
            if (status == null) throw new RpcException(StatusCode.Unavailable, "the response ended without a status");
            if (!int.TryParse(status, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ||
                number > (int)StatusCode.Unauthenticated)
                throw new RpcException(StatusCode.Unknown, $"status '{status}': {message}");
            if (number != (int)StatusCode.Ok)
                throw new RpcException((StatusCode)number, Uri.UnescapeDataString(message ?? ""),
                    details: RpcDetails.Parse(header(DetailsHeader)));
        }

        static Dictionary<string, string> Headers(GrpcProtocol protocol, string token, TimeSpan? deadline)
        {
            bool web = protocol == GrpcProtocol.Web;
            var headers = new Dictionary<string, string>
            {
                ["content-type"] = web ? "application/grpc-web+proto" : "application/grpc+proto",
                [web ? "x-grpc-web" : "te"] = web ? "1" : "trailers",
            };
            if (!string.IsNullOrEmpty(token)) headers["authorization"] = "Bearer " + token;
            if (deadline.HasValue) headers["grpc-timeout"] = Timeout(deadline.Value);
            return headers;
        }

        // At most eight digits; milliseconds while they are enough.
        static string Timeout(TimeSpan deadline)
        {
            if (deadline <= TimeSpan.Zero)
                throw new ArgumentOutOfRangeException(nameof(deadline), $"expected more than 0, got {deadline}");
            double ms = Math.Ceiling(deadline.TotalMilliseconds);
            return ms <= MaxTimeout ? FormattableString.Invariant($"{ms:0}m")
                : FormattableString.Invariant($"{Math.Min(deadline.TotalSeconds, MaxTimeout):0}S");
        }

        // The mapping that gRPC prescribes for answers that come from something before the server.
        static StatusCode FromHttp(int status) => status switch
        {
            400 => StatusCode.Internal,
            401 => StatusCode.Unauthenticated,
            403 => StatusCode.PermissionDenied,
            404 => StatusCode.Unimplemented,
            429 => StatusCode.Unavailable,
            502 => StatusCode.Unavailable,
            503 => StatusCode.Unavailable,
            504 => StatusCode.Unavailable,
            _ => StatusCode.Unknown,
        };
    }
}
