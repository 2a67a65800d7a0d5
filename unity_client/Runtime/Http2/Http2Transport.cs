using System;
using Cysharp.Net.Http;
using MotionR1.Core;

namespace MotionR1.Http2
{
    /// <summary>Native gRPC over YetAnotherHttpHandler. This assembly is compiled only where that package is
    /// installed.</summary>
    public static class Http2Transport
    {
        /// <summary>Opens a way to a bridge's gRPC address, for example <c>grpc://127.0.0.1:50051</c>, or grpcs with
        /// TLS.</summary>
        /// <param name="address">Where the bridge answers gRPC.</param>
        /// <param name="rootCertificates">Certificates that are trusted, as PEM; null for those of Mozilla.</param>
        public static IByteTransport Open(string address, string rootCertificates = null)
        {
            var uri = Transports.HttpAddress(new Uri(address));
            // Without TLS nothing tells the server which HTTP is spoken: only this does.
            var handler = new YetAnotherHttpHandler { Http2Only = uri.Scheme == "http" };
            if (rootCertificates != null) handler.RootCertificates = rootCertificates;
            return new HttpByteTransport(uri, GrpcProtocol.Native, handler);
        }
    }
}
