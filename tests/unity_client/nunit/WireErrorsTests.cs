using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    /// <summary>Each error code of the wire from the bridge's own servers, over gRPC-Web and over HTTP/2; and TLS with a
    /// root of one's own. pytest has started the servers, and wrote down where they are.</summary>
    [TestFixture(false)]
    [TestFixture(true)]
    public class WireErrorsTests
    {
        const string Folder = "MOTION_R1_SERVERS_FOLDER";

        static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

        readonly bool _native;

        public WireErrorsTests(bool native) => _native = native;

        [SetUp]
        public void NeedServers()
        {
            if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(Folder)))
                Assert.Ignore($"{Folder} is not set: pytest sets it");
        }

        [TestCase(null, "TOKEN_MISSING")]
        [TestCase("", "TOKEN_MISSING")]
        [TestCase("guessed", "TOKEN_UNKNOWN")]
        public void WhoHasNoTokenThatTheServerKnowsIsUnauthenticated(string token, string reason)
        {
            var error = Refused(Secured(token));
            Assert.That((error.Code, error.Details.Reason), Is.EqualTo((StatusCode.Unauthenticated, reason)));
        }

        [Test]
        public void OneStreamTooManyIsResourceExhaustedAndSaysWhenToAskAgain()
        {
            using var client = Secured(Read("token"));
            using var second = Secured(Read("token"));
            var error = MotionClientTests.Wait(async () =>
            {
                await using var first = await TakeThePlace(client);
                return await Failure(Drain(second.DecodeMotionAsync(Slowly(), Deadline)));
            });
            Assert.That((error.Code, error.Details.Reason),
                Is.EqualTo((StatusCode.ResourceExhausted, "STREAMS_IN_USE")));
            Assert.That(error.Details.RetryAfter, Is.GreaterThan(TimeSpan.Zero).And.LessThan(TimeSpan.FromMinutes(1)));
        }

        [Test]
        public void ARequestOfMoreThan64KilobytesIsResourceExhausted()
        {
            var request = new StreamMotionRequest { Prompt = new string('a', 65 << 10) };
            using var client = Secured(Read("token"));
            var error = MotionClientTests.Wait(() => Failure(Drain(client.StreamMotionAsync(request, Deadline))));
            Assert.That((error.Code, error.Details.RetryAfter), Is.EqualTo((StatusCode.ResourceExhausted, (TimeSpan?)null)));
        }

        [Test]
        public void AMethodThatTheServerDoesNotHaveIsUnimplemented()
        {
            var elsewhere = new Elsewhere(Open("plain"), "/motion_r1.v1.MotionService/Dance");
            Assert.That(Refused(new MotionClient(elsewhere)).Code, Is.EqualTo(StatusCode.Unimplemented));
        }

        [TestCase("loading", "LOADING")]
        [TestCase("draining", "DRAINING")]
        public void AServerThatTakesNoCallsIsUnavailableAndSaysWhenToAskAgain(string server, string reason)
        {
            var error = Refused(new MotionClient(Open(server)));
            Assert.That((error.Code, error.Details.Reason), Is.EqualTo((StatusCode.Unavailable, reason)));
            Assert.That(error.Details.RetryAfter, Is.GreaterThan(TimeSpan.Zero));
        }

        [Test]
        public void AServerWhoseModelIsGoneIsInternalAndTellsNoSecrets()
        {
            var error = Refused(new MotionClient(Open("broken")));
            Assert.That((error.Code, error.Details.Reason), Is.EqualTo((StatusCode.Internal, "INTERNAL")));
            Assert.That(error.Detail, Does.Contain("request id"));
        }

        [Test]
        public void AStreamThatOutlastsTheStopOfItsServerIsUnavailableAndCanBeTakenUpElsewhere()
        {
            string server = _native ? "stopping-native" : "stopping-web";
            using var client = new MotionClient(Open(server));
            var error = MotionClientTests.Wait(() => Failure(Drain(client.DecodeMotionAsync(Slowly(), Deadline),
                () => File.WriteAllText(PathOf(server + ".stop"), ""))));
            Assert.That(error.Code, Is.EqualTo(StatusCode.Unavailable));
        }

        [Test]
        public void WithItsOwnRootAServerIsTrusted()
        {
            using var client = Secured(Read("token"));
            var model = MotionClientTests.Wait(() => client.GetModelAsync(Deadline)).Model;
            Assert.That(model.ModelId, Is.Not.Empty);
        }

        [TestCase("other.pem", "127.0.0.1", TestName = "anothers root")]
        [TestCase("other.pem root.pem", "localhost", TestName = "another name than the certificates")]
        [TestCase("", "127.0.0.1", TestName = "the systems roots")]
        public void WhoeverCannotProveWhoHeIsIsNotTalkedTo(string roots, string host)
        {
            string pem = string.Join("\n", roots.Split(' ').Where(name => name.Length > 0).Select(Read));
            var error = Refused(new MotionClient(OpenSecured(pem, host), Read("token")));
            Assert.That(error.Code, Is.EqualTo(StatusCode.Unavailable));
            Assert.That(error.Detail, Does.Contain("certificate"));
        }

        [Test]
        public void SeveralRootsMayBeTrusted()
        {
            using var client = new MotionClient(OpenSecured(Read("other.pem") + Read("root.pem")), Read("token"));
            Assert.That(MotionClientTests.Wait(() => client.GetModelAsync(Deadline)).Model, Is.Not.Null);
        }

        MotionClient Secured(string token) => new MotionClient(OpenSecured(Read("root.pem")), token);

        IByteTransport OpenSecured(string pem, string host = "127.0.0.1")
        {
            var (grpc, web) = Addresses("secured");
            string address = $"https://{host}:{(_native ? grpc : web).Split(':')[1]}";
            if (!_native) return Transports.Open(address, pem);
            // .NET's own HTTP/2, which Unity does not have: YetAnotherHttpHandler takes the same PEM.
            var handler = pem.Length == 0 ? null : new TrustedRoots(pem).Handler();
            return new HttpByteTransport(new Uri(address), GrpcProtocol.Native, handler);
        }

        IByteTransport Open(string server)
        {
            var (grpc, web) = Addresses(server);
            return _native ? NativeGrpcTests.Native(grpc) : Transports.Open("http://" + web);
        }

        static (string grpc, string web) Addresses(string server)
        {
            var parts = Read(server).Split(' ');
            return (parts[0], parts[1]);
        }

        static string Read(string name) => File.ReadAllText(PathOf(name));

        static string PathOf(string name) => Path.Combine(Environment.GetEnvironmentVariable(Folder), name);

        // A stream that takes a minute.
        static DecodeMotionRequest Slowly()
        {
            var request = new DecodeMotionRequest
            {
                Pacing = new Pacing { Mode = PacingMode.Realtime, MaxLeadS = 0.2f },
            };
            for (int i = 0; i < 300; i++) request.Codes.Add(1);
            return request;
        }

        // Whoever had the only place before may have left it a moment ago.
        static async Task<IAsyncEnumerator<MotionEvent>> TakeThePlace(MotionClient client)
        {
            for (int i = 0; ; i++)
            {
                var stream = client.DecodeMotionAsync(Slowly(), Deadline).GetAsyncEnumerator();
                try
                {
                    Assert.That(await stream.MoveNextAsync(), Is.True);
                    return stream;
                }
                catch (RpcException error) when (error.Code == StatusCode.ResourceExhausted && i < 100)
                {
                    await stream.DisposeAsync();
                    await Task.Delay(100);
                }
            }
        }

        static RpcException Refused(MotionClient client)
        {
            using (client)
                return MotionClientTests.Wait(() => Failure(Drain(client.DecodeMotionAsync(Slowly(), Deadline))));
        }

        static async Task Drain(IAsyncEnumerable<MotionEvent> events, Action atFirstFrame = null)
        {
            await foreach (var next in events)
            {
                if (next.Chunk == null) continue;
                atFirstFrame?.Invoke();
                atFirstFrame = null;
            }
        }

        static async Task<RpcException> Failure(Task call)
        {
            try
            {
                await call;
            }
            catch (RpcException error)
            {
                return error;
            }
            throw new AssertionException("the call did not fail");
        }

        /// <summary>Sends every call to another path.</summary>
        sealed class Elsewhere : IByteTransport
        {
            readonly IByteTransport _to;
            readonly string _path;

            public Elsewhere(IByteTransport to, string path) => (_to, _path) = (to, path);

            public GrpcProtocol Protocol => _to.Protocol;

            public Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation) =>
                _to.SendAsync(new ByteRequest(_path, request.Headers, request.Body), cancellation);

            public void Dispose() => _to.Dispose();
        }
    }
}
