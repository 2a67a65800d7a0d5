using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace MotionR1.Core
{
    /// <summary>How gRPC is laid on HTTP.</summary>
    public enum GrpcProtocol
    {
        /// <summary>gRPC-Web, on any HTTP version: the status comes in the body.</summary>
        Web,
        /// <summary>gRPC itself, on HTTP/2: the status comes in trailers.</summary>
        Native,
    }

    /// <summary>One POST.</summary>
    public sealed class ByteRequest
    {
        /// <summary>A request to <paramref name="path"/>, which starts with a slash.</summary>
        public ByteRequest(string path, IReadOnlyDictionary<string, string> headers, byte[] body)
        {
            (Path, Headers, Body) = (path, headers, body);
        }

        /// <summary>Where to, below the server's address.</summary>
        public string Path { get; }

        /// <summary>Names in lower case; <c>content-type</c> is among them.</summary>
        public IReadOnlyDictionary<string, string> Headers { get; }

        /// <summary>All of it.</summary>
        public byte[] Body { get; }
    }

    /// <summary>Carries bytes to a server and back. It knows HTTP, not gRPC. When the network fails it throws
    /// <see cref="System.IO.IOException"/>.</summary>
    public interface IByteTransport : IDisposable
    {
        /// <summary>The protocol to speak over it.</summary>
        GrpcProtocol Protocol { get; }

        /// <summary>Sends a request and returns as soon as the response's headers are here.</summary>
        Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation);
    }

    /// <summary>A response whose body is still coming. Disposing it ends the request.</summary>
    public interface IByteResponse : IDisposable
    {
        /// <summary>HTTP's own status, for example 200.</summary>
        int HttpStatus { get; }

        /// <summary>A header, or null.</summary>
        string Header(string name);

        /// <summary>A trailer, or null; known once the body was read.</summary>
        string Trailer(string name);

        /// <summary>Reads what has come, at least one byte; 0 at the end.</summary>
        Task<int> ReadAsync(byte[] buffer, CancellationToken cancellation);
    }
}
