using System;
using System.Collections.Generic;
using System.Linq;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    /// <summary>The client over HTTP/2, which .NET has and Unity's own HttpClient has not.</summary>
    public class NativeGrpcTests
    {
        const string GrpcAddress = "MOTION_R1_GRPC_ADDRESS";
        const string WebAddress = "MOTION_R1_WEB_ADDRESS";

        [SetUp]
        public void NeedABridge() => RequireAddresses();

        internal static void RequireAddresses()
        {
            foreach (string name in new[] { GrpcAddress, WebAddress })
                if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(name)))
                    Assert.Ignore($"{name} is not set: pytest sets it");
        }

        [Test]
        public void NativeGrpcAndGrpcWebGiveTheSameFrames()
        {
            var native = Chunks(Native());
            var web = Chunks(Web());
            Assert.That(native, Is.Not.Empty);
            Assert.That(native, Is.EqualTo(web));
        }

        [Test]
        public void AnErrorArrivesOverNativeGrpc()
        {
            Assert.That(() => Events(Native(), " "), Fails.With(StatusCode.InvalidArgument));
        }

        internal static HttpByteTransport Web() =>
            new HttpByteTransport(new Uri(Environment.GetEnvironmentVariable(WebAddress)));

        internal static HttpByteTransport Native() => Native(Environment.GetEnvironmentVariable(GrpcAddress));

        internal static HttpByteTransport Native(string address) =>
            new HttpByteTransport(new Uri("http://" + address), GrpcProtocol.Native, new Http2Only());

        static List<string> Chunks(IByteTransport transport) => Events(transport, "a person walks forward")
            .Where(step => step.Chunk != null).Select(step => CodecTests.Hex(step.ToBytes())).ToList();

        static List<MotionEvent> Events(IByteTransport transport, string prompt)
        {
            async Task<List<MotionEvent>> All()
            {
                using var client = new MotionClient(transport);
                var events = new List<MotionEvent>();
                var request = new StreamMotionRequest { Prompt = prompt, Seed = 11 };
                var deadline = TimeSpan.FromSeconds(60);
                await foreach (var step in client.StreamMotionAsync(request, deadline)) events.Add(step);
                return events;
            }
            return MotionClientTests.Wait(All);
        }

        // .NET speaks HTTP/2 without TLS only if nothing else will do; netstandard2.1 does not know that property.
        sealed class Http2Only : DelegatingHandler
        {
            public Http2Only() : base(new HttpClientHandler())
            {
            }

            protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request,
                CancellationToken cancellation)
            {
                var policy = typeof(HttpRequestMessage).GetProperty("VersionPolicy");
                policy.SetValue(request, Enum.Parse(policy.PropertyType, "RequestVersionExact"));
                return base.SendAsync(request, cancellation);
            }
        }
    }
}
