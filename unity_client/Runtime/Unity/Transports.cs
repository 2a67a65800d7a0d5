using System;
using MotionR1.Core;

namespace MotionR1
{
    /// <summary>Opens the transport that the platform has.</summary>
    public static class Transports
    {
        const string Native = "grpc", NativeTls = "grpcs";

        /// <summary>Opens a way to a bridge: <c>http://127.0.0.1:50052</c> or https for gRPC-Web, which works
        /// everywhere; <c>grpc://127.0.0.1:50051</c> or grpcs for native gRPC, which needs HTTP/2: Unity 6.5 or newer, or
        /// the assembly MotionR1.Http2.</summary>
        /// <param name="address">Where the bridge answers.</param>
        /// <param name="rootCertificates">The only roots that the bridge's certificate may come from, as PEM; null or empty
        /// for those that the system trusts. Over UnityWebRequest there is no such choice: its CertificateHandler sees the
        /// server's certificate alone, neither what signed it nor whose name was asked for.</param>
        public static IByteTransport Open(string address, string rootCertificates = null)
        {
            if (!Uri.TryCreate(address, UriKind.Absolute, out var uri))
                throw new ArgumentException($"expected an address like http://127.0.0.1:50052, got '{address}'");
            var roots = string.IsNullOrEmpty(rootCertificates) ? null : new TrustedRoots(rootCertificates);
            return uri.Scheme == Native || uri.Scheme == NativeTls ? OpenNative(uri, roots) : OpenWeb(uri, roots);
        }

        /// <summary>The address with the scheme that HTTP knows.</summary>
        public static Uri HttpAddress(Uri address)
        {
            if (address.Scheme != Native && address.Scheme != NativeTls) return address;
            string scheme = address.Scheme == Native ? "http" : "https";
            return new UriBuilder(address) { Scheme = scheme, Port = address.Port }.Uri;
        }

        static IByteTransport OpenWeb(Uri address, TrustedRoots roots)
        {
#if UNITY_WEBGL && !UNITY_EDITOR
            if (roots != null) throw OnlyTheSystems(address, "the browser");
            return new UnityWebRequestTransport(address);
#else
            return new HttpByteTransport(address, GrpcProtocol.Web, roots?.Handler());
#endif
        }

        static IByteTransport OpenNative(Uri address, TrustedRoots roots)
        {
#if UNITY_6000_5_OR_NEWER && (UNITY_EDITOR || !UNITY_WEBGL)
            if (roots != null) throw OnlyTheSystems(address, "UnityHttpMessageHandler");
            var handler = new UnityEngine.Networking.UnityHttpMessageHandler
            {
                HttpForcedVersion = UnityEngine.Networking.HttpForcedVersion.HTTP2,
            };
            return new HttpByteTransport(HttpAddress(address), GrpcProtocol.Native, handler);
#else
            throw new NotSupportedException($"{address}: this Unity has no HTTP/2; use the bridge's gRPC-Web address, " +
                "like http://127.0.0.1:50052, or set OpenTransport to MotionR1.Http2.Http2Transport.Open");
#endif
        }

        static NotSupportedException OnlyTheSystems(Uri address, string who) => new NotSupportedException(
            $"{address}: {who} trusts the system's roots alone; add yours there, or use the bridge's gRPC-Web address " +
            "where there is HttpClient");
    }
}
