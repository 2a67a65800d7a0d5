using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Tasks;

namespace MotionR1.Core
{
    /// <summary>Bytes over an <see cref="HttpMessageHandler"/>: HTTP/1.1 with gRPC-Web by default, HTTP/2 with native
    /// gRPC where the handler can.</summary>
    public sealed class HttpByteTransport : IByteTransport
    {
        static readonly Version Http11 = new Version(1, 1);
        static readonly Version Http20 = new Version(2, 0);

        readonly HttpClient _client;

        /// <summary>Talks to <paramref name="address"/>, for example <c>http://127.0.0.1:50052</c>. The handler, .NET's
        /// own if null, is disposed with the transport.</summary>
        public HttpByteTransport(Uri address, GrpcProtocol protocol = GrpcProtocol.Web,
            HttpMessageHandler handler = null)
        {
            if (!address.IsAbsoluteUri || !address.Scheme.StartsWith("http", StringComparison.Ordinal))
                throw new ArgumentException($"expected an address like http://127.0.0.1:50052, got '{address}'");
            Protocol = protocol;
            handler ??= new HttpClientHandler();
            // Unity's Mono opens two connections to a server, which would be two characters, and its HttpClientHandler
            // does not implement MaxConnectionsPerServer. Source: https://github.com/mono/mono/issues/11723
            if (handler is HttpClientHandler) ServicePointManager.FindServicePoint(address).ConnectionLimit = int.MaxValue;
            // A stream lasts as long as it lasts: deadlines are gRPC's business.
            _client = new HttpClient(handler)
            {
                BaseAddress = address,
                Timeout = Timeout.InfiniteTimeSpan,
            };
        }

        /// <inheritdoc/>
        public GrpcProtocol Protocol { get; }

        /// <inheritdoc/>
        public async Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation)
        {
            using var message = new HttpRequestMessage(HttpMethod.Post, request.Path)
            {
                Version = Protocol == GrpcProtocol.Native ? Http20 : Http11,
                Content = new ByteArrayContent(request.Body),
            };
            foreach (var header in request.Headers)
                if (header.Key == "content-type")
                    message.Content.Headers.ContentType = new MediaTypeHeaderValue(header.Value);
                else
                    message.Headers.TryAddWithoutValidation(header.Key, header.Value);
            try
            {
                var response = await _client.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, cancellation);
                return new Response(response, await response.Content.ReadAsStreamAsync());
            }
            catch (HttpRequestException error)
            {
                // The innermost says it: of TLS the outer ones only that something was wrong.
                string why = error.GetBaseException().Message;
                throw new IOException($"{_client.BaseAddress} cannot be reached: {why}", error);
            }
        }

        /// <inheritdoc/>
        public void Dispose() => _client.Dispose();

        sealed class Response : IByteResponse
        {
            readonly HttpResponseMessage _message;
            readonly Stream _body;

            public Response(HttpResponseMessage message, Stream body) => (_message, _body) = (message, body);

            public int HttpStatus => (int)_message.StatusCode;

            public string Header(string name) => First(_message.Headers, name) ?? First(_message.Content.Headers, name);

            public string Trailer(string name) => First(_message.TrailingHeaders, name);

            public async Task<int> ReadAsync(byte[] buffer, CancellationToken cancellation)
            {
                try
                {
                    return await _body.ReadAsync(buffer, 0, buffer.Length, cancellation);
                }
                catch (Exception error) when (error is HttpRequestException || error is WebException)
                {
                    throw new IOException($"the response broke off: {error.Message}", error);
                }
            }

            public void Dispose() => _message.Dispose();

            static string First(HttpHeaders headers, string name)
            {
                if (!headers.TryGetValues(name, out IEnumerable<string> values)) return null;
                foreach (string value in values) return value;
                return null;
            }
        }
    }
}
