using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using UnityEngine.Networking;

namespace MotionR1
{
    /// <summary>gRPC-Web over UnityWebRequest: for Web builds, which have neither sockets nor threads. Whatever waits here
    /// waits for the next frame.</summary>
    public sealed class UnityWebRequestTransport : IByteTransport
    {
        readonly Uri _address;

        /// <summary>Talks to <paramref name="address"/>, for example <c>http://127.0.0.1:50052</c>.</summary>
        public UnityWebRequestTransport(Uri address) => _address = address;

        /// <inheritdoc/>
        public GrpcProtocol Protocol => GrpcProtocol.Web;

        /// <inheritdoc/>
        public async Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation)
        {
            var body = new Body();
            var web = new UnityWebRequest(new Uri(_address, request.Path), UnityWebRequest.kHttpVerbPOST)
            {
                uploadHandler = new UploadHandlerRaw(request.Body),
                downloadHandler = body,
            };
            foreach (var header in request.Headers) web.SetRequestHeader(header.Key, header.Value);
            var response = new Response(web, body);
            try
            {
                web.SendWebRequest();
                while (web.responseCode == 0 && !web.isDone) await NextFrame(cancellation);
                if (web.responseCode == 0) throw new IOException($"{_address} cannot be reached: {web.error}");
                return response;
            }
            catch
            {
                response.Dispose();
                throw;
            }
        }

        /// <inheritdoc/>
        public void Dispose()
        {
        }

        static async Task NextFrame(CancellationToken cancellation)
        {
            cancellation.ThrowIfCancellationRequested();
            await Task.Yield();
        }

        sealed class Response : IByteResponse
        {
            readonly UnityWebRequest _web;
            readonly Body _body;
            bool _disposed;

            public Response(UnityWebRequest web, Body body) => (_web, _body) = (web, body);

            public int HttpStatus => (int)_web.responseCode;

            public string Header(string name) => _web.GetResponseHeader(name);

            public string Trailer(string name) => null;

            public async Task<int> ReadAsync(byte[] buffer, CancellationToken cancellation)
            {
                while (!_disposed)
                {
                    int count = _body.Take(buffer);
                    if (count > 0) return count;
                    if (_web.isDone)
                    {
                        if (_web.result == UnityWebRequest.Result.ConnectionError ||
                            _web.result == UnityWebRequest.Result.DataProcessingError)
                            throw new IOException($"the response broke off: {_web.error}");
                        return 0;
                    }
                    await NextFrame(cancellation);
                }
                throw new ObjectDisposedException(nameof(UnityWebRequestTransport));
            }

            public void Dispose()
            {
                if (_disposed) return;
                _disposed = true;
                _web.Abort();
                _web.Dispose();
            }
        }

        sealed class Body : DownloadHandlerScript
        {
            readonly MemoryStream _received = new MemoryStream();
            int _taken;

            public int Take(byte[] buffer)
            {
                int count = Math.Min(buffer.Length, (int)_received.Length - _taken);
                Array.Copy(_received.GetBuffer(), _taken, buffer, 0, count);
                _taken += count;
                if (_taken == _received.Length)
                {
                    _received.SetLength(0);
                    _taken = 0;
                }
                return count;
            }

            protected override bool ReceiveData(byte[] data, int dataLength)
            {
                _received.Write(data, 0, dataLength);
                return true;
            }
        }
    }
}
