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
    public class MotionClientTests
    {
        static readonly StreamMotionRequest Walk =
            new StreamMotionRequest { Prompt = "a person walks forward", Seed = 7 };

        [TestCase(1)]
        [TestCase(5)]
        [TestCase(100000)]
        public void AStreamGivesItsEventsInOrder(int step)
        {
            var expected = Streams.Complete(3);
            var received = Stream(new ScriptedTransport(Streams.WebBody(expected), step));
            Assert.That(received.Select(e => CodecTests.Hex(e.ToBytes())),
                Is.EqualTo(expected.Select(e => CodecTests.Hex(e.ToBytes()))));
        }

        [Test]
        public void TheRequestIsAGrpcWebPost()
        {
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(1)));
            Stream(transport, TimeSpan.FromSeconds(2.5), "secret");
            Assert.That(transport.Request.Path, Is.EqualTo("/motion_r1.v1.MotionService/StreamMotion"));
            Assert.That(transport.Request.Headers, Is.EquivalentTo(new Dictionary<string, string>
            {
                ["content-type"] = "application/grpc-web+proto",
                ["x-grpc-web"] = "1",
                ["authorization"] = "Bearer secret",
                ["grpc-timeout"] = "2500m",
            }));
            Assert.That(transport.Request.Body, Is.EqualTo(GrpcBody.Frame(Walk)));
            Assert.That(transport.ResponseDisposed, Is.True);
        }

        [Test]
        public void NativeGrpcHasItsStatusInTrailers()
        {
            var body = Streams.WebBody(Streams.Complete(2), trailers: null);
            var transport = new ScriptedTransport(body, 9) { Protocol = GrpcProtocol.Native };
            transport.Trailers["grpc-status"] = "0";
            Assert.That(Stream(transport).Count, Is.EqualTo(5));
            Assert.That(transport.Request.Headers["te"], Is.EqualTo("trailers"));
            Assert.That(transport.Request.Headers["content-type"], Is.EqualTo("application/grpc+proto"));
        }

        [Test]
        public void AnErrorInTrailersHasItsCodeAndItsWordsDecoded()
        {
            var events = Streams.Complete(1).Take(2);
            var body = Streams.WebBody(events, "grpc-status: 3\r\ngrpc-message: zu lang: 100%25 %C3%BCber\r\n");
            Assert.That(() => Stream(new ScriptedTransport(body)),
                Fails.With(StatusCode.InvalidArgument, "100% über"));
        }

        [Test]
        public void AnErrorWithoutMessagesComesInHeaders()
        {
            var transport = new ScriptedTransport(Array.Empty<byte>());
            transport.Headers["grpc-status"] = "16";
            transport.Headers["grpc-message"] = "no token";
            Assert.That(() => Stream(transport), Fails.With(StatusCode.Unauthenticated, "no token"));
        }

        [TestCase(415, StatusCode.Unknown)]
        [TestCase(503, StatusCode.Unavailable)]
        [TestCase(401, StatusCode.Unauthenticated)]
        [TestCase(404, StatusCode.Unimplemented)]
        [TestCase(500, StatusCode.Unknown)]
        public void AnHttpErrorBecomesAStatus(int http, StatusCode expected)
        {
            var transport = new ScriptedTransport(Array.Empty<byte>()) { HttpStatus = http };
            Assert.That(() => Stream(transport), Fails.With(expected, $"HTTP {http}"));
        }

        [Test]
        public void AWebPageIsNoBridge()
        {
            var transport = new ScriptedTransport(new byte[10]);
            transport.Headers["content-type"] = "text/html";
            Assert.That(() => Stream(transport), Fails.With(StatusCode.Unknown, "text/html"));
        }

        [Test]
        public void AStreamWithoutStatusIsUnavailable()
        {
            var body = Streams.WebBody(Streams.Complete(2), trailers: null);
            Assert.That(() => Stream(new ScriptedTransport(body)),
                Fails.With(StatusCode.Unavailable, "without a status"));
        }

        [Test]
        public void AStreamWithoutSummaryIsIncompleteThoughItsStatusIsOk()
        {
            var events = Streams.Complete(2);
            events.RemoveAt(events.Count - 1);
            var body = Streams.WebBody(events);
            Assert.That(() => Stream(new ScriptedTransport(body)), Fails.With(StatusCode.Unavailable, "8 frames"));
        }

        [TestCase("2.0")]
        [TestCase("0.9")]
        [TestCase("1")]
        [TestCase("")]
        [TestCase("-1.0")]
        public void AnotherWireVersionIsNamedTogetherWithOurs(string theirs)
        {
            var events = new[] { new MotionEvent { Header = Streams.Header(1, theirs) } };
            string words = $"'{theirs}', this client '{MotionClient.WireVersion}'";
            Assert.That(() => Stream(new ScriptedTransport(Streams.WebBody(events))),
                Fails.With(StatusCode.FailedPrecondition, words));
            var response = new GetModelResponse { Model = new Model { WireVersion = theirs } };
            var body = GrpcBody.Frame(response).Concat(Streams.WebBody(Array.Empty<MotionEvent>())).ToArray();
            using var client = new MotionClient(new ScriptedTransport(body));
            Assert.That(() => Wait(() => client.GetModelAsync()), Fails.With(StatusCode.FailedPrecondition, words));
        }

        [Test]
        public void AServerThatHasGrownIsUnderstood()
        {
            var events = Streams.Complete(1);
            events[0].Header.Model.WireVersion = "1.12";
            events.Insert(2, MotionEvent.Parse(CodecTests.FromHex("a20600")));  // an event that we do not know
            Assert.That(Stream(new ScriptedTransport(Streams.WebBody(events))).Count, Is.EqualTo(4));
        }

        [TestCase("chunk first")]
        [TestCase("header twice")]
        [TestCase("plan twice")]
        [TestCase("plan late")]
        [TestCase("gap")]
        [TestCase("after the summary")]
        public void EventsOutOfOrderAreInternal(string what)
        {
            var proper = Streams.Complete(2);  // 0 header, 1 plan, 2 and 3 chunks, 4 summary
            var order = what switch
            {
                "chunk first" => new[] { 2, 0 },
                "header twice" => new[] { 0, 0 },
                "plan twice" => new[] { 0, 1, 1 },
                "plan late" => new[] { 0, 2, 1 },
                "gap" => new[] { 0, 1, 3 },
                _ => new[] { 0, 1, 2, 3, 4, 4 },
            };
            var body = Streams.WebBody(order.Select(i => proper[i]));
            Assert.That(() => Stream(new ScriptedTransport(body)), Fails.With(StatusCode.Internal, "out of order"));
        }

        [Test]
        public void ASummaryThatCountsOtherFramesIsDataLoss()
        {
            var events = Streams.Complete(2);
            events[4].Summary.NumFrames = 12;
            Assert.That(() => Stream(new ScriptedTransport(Streams.WebBody(events))),
                Fails.With(StatusCode.DataLoss, "12"));
        }

        [Test]
        public void FramesThatDoNotFitTheSkeletonAreInternal()
        {
            var events = Streams.Complete(1);
            events[2].Chunk.JointRotations = new byte[60];
            Assert.That(() => Stream(new ScriptedTransport(Streams.WebBody(events))),
                Fails.With(StatusCode.Internal, "do not fit"));
        }

        [Test]
        public void ANumberThatIsNotFiniteIsInternal()
        {
            var events = Streams.Complete(1);
            events[2].Chunk.RootPositionsM = Streams.Bytes(Enumerable.Repeat(float.NaN, 12).ToArray());
            Assert.That(() => Stream(new ScriptedTransport(Streams.WebBody(events))),
                Fails.With(StatusCode.Internal, "NaN"));
        }

        [Test]
        public void BytesThatDoNotParseAreInternal()
        {
            var body = Streams.Framed(0, new byte[] { 0x0a, 0x05 });
            Assert.That(() => Stream(new ScriptedTransport(body)), Fails.With(StatusCode.Internal, "does not parse"));
        }

        [Test]
        public void TheCallersCancellationEndsAWaitingRead()
        {
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2), null)) { HangsAtEnd = true };
            using var stop = new CancellationTokenSource(50);
            Assert.That(() => Stream(transport, cancellation: stop.Token),
                Throws.InstanceOf<OperationCanceledException>());
            Assert.That(transport.ResponseDisposed, Is.True);
        }

        [Test]
        public void ADeadlineThatPassesIsDeadlineExceeded()
        {
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2), null)) { HangsAtEnd = true };
            Assert.That(() => Stream(transport, TimeSpan.FromMilliseconds(50)),
                Fails.With(StatusCode.DeadlineExceeded));
        }

        [Test]
        public void CancellationWakesAReadThatWaitsForTheNetwork()
        {
            using var server = new SilentServer(Streams.WebBody(Streams.Complete(2).Take(3), null));
            using var stop = new CancellationTokenSource();
            var transport = new HttpByteTransport(server.Address);
            var received = new List<MotionEvent>();
            async Task<bool> Listen()
            {
                using var client = new MotionClient(transport);
                await foreach (var motionEvent in client.StreamMotionAsync(Walk, null, stop.Token))
                {
                    received.Add(motionEvent);
                    if (received.Count == 3) stop.CancelAfter(50);
                }
                return true;
            }
            var listening = Task.Run(Listen);
            Assert.That(() => listening.Wait(TimeSpan.FromSeconds(20)),
                Throws.InnerException.InstanceOf<OperationCanceledException>());
            Assert.That(received.Count, Is.EqualTo(3));
        }

        [Test]
        public void AConnectionThatBreaksOffIsUnavailable()
        {
            var server = new SilentServer(Streams.WebBody(Streams.Complete(2).Take(3), null));
            var transport = new HttpByteTransport(server.Address);
            async Task<bool> Listen()
            {
                using var client = new MotionClient(transport);
                await foreach (var motionEvent in client.StreamMotionAsync(Walk))
                    if (motionEvent.Chunk != null) server.Dispose();
                return true;
            }
            Assert.That(() => Wait(Listen), Fails.With(StatusCode.Unavailable));
        }

        [Test]
        public void LeavingTheLoopClosesTheResponse()
        {
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            async Task First()
            {
                using var client = new MotionClient(transport);
                await foreach (var _ in client.StreamMotionAsync(Walk)) break;
                Assert.That(transport.ResponseDisposed, Is.True);
            }
            Wait(async () => { await First(); return true; });
        }

        [Test]
        public void AServerThatIsNotThereIsUnavailable()
        {
            var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
            listener.Start();
            int port = ((System.Net.IPEndPoint)listener.LocalEndpoint).Port;
            listener.Stop();
            var transport = new HttpByteTransport(new Uri($"http://127.0.0.1:{port}"));
            Assert.That(() => Stream(transport), Fails.With(StatusCode.Unavailable, port.ToString()));
        }

        internal static List<MotionEvent> Stream(IByteTransport transport, TimeSpan? deadline = null,
            string token = null, CancellationToken cancellation = default)
        {
            async Task<List<MotionEvent>> All()
            {
                using var client = new MotionClient(transport, token);
                var events = new List<MotionEvent>();
                await foreach (var motionEvent in client.StreamMotionAsync(Walk, deadline, cancellation))
                    events.Add(motionEvent);
                return events;
            }
            return Wait(All);
        }

        // Unity runs tests on its main thread, where whatever is awaited would continue: not while it is blocked here.
        internal static T Wait<T>(Func<Task<T>> run) => Task.Run(run).GetAwaiter().GetResult();
    }
}
