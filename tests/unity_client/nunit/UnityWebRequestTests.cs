using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;
using UnityEngine.Networking;

namespace MotionR1.Tests
{
    /// <summary>gRPC-Web over UnityWebRequest, as Web builds have it: one thread, frame by frame. The request is played by a
    /// script.</summary>
    public class UnityWebRequestTests
    {
        readonly List<MotionEvent> _received = new List<MotionEvent>();
        MainThread _main;
        ScriptedWeb _web;
        CancellationTokenSource _stop;

        [SetUp]
        public void LoadThePage()
        {
            _received.Clear();
            _main = new MainThread();
            ScriptedWeb.Current = _web = new ScriptedWeb();
            _stop = new CancellationTokenSource();
        }

        [TearDown]
        public void LeaveThePage()
        {
            _main.Dispose();
            _stop.Dispose();
        }

        [TestCase(1)]
        [TestCase(7)]
        [TestCase(4096)]
        public void EventsComeWhileBytesComeWhereverTheyAreCut(int step)
        {
            var expected = Streams.Complete(3);
            var body = Streams.WebBody(expected);
            var call = Receive();
            Frames();
            for (int at = 0; at < body.Length; at += step)
            {
                _web.Receive(body.Skip(at).Take(step).ToArray());
                Frames();
                if (at + step < body.Length) Assert.That(call.IsCompleted, Is.False);
            }
            Assert.That(call.Status, Is.EqualTo(TaskStatus.RanToCompletion), "trailers close the stream");
            Assert.That(_received.Select(e => CodecTests.Hex(e.ToBytes())),
                Is.EqualTo(expected.Select(e => CodecTests.Hex(e.ToBytes()))));
            Assert.That(_web.Aborted, Is.True, "released");
        }

        [Test]
        public void TheRequestIsAPostWithItsHeaders()
        {
            var call = Receive();
            Assert.That((_web.Request.method, _web.Request.uri),
                Is.EqualTo(("POST", new Uri("http://bridge.example:50052/motion_r1.v1.MotionService/StreamMotion"))));
            Assert.That(_web.SentHeaders, Is.EquivalentTo(new Dictionary<string, string>
            {
                ["content-type"] = "application/grpc-web+proto",
                ["x-grpc-web"] = "1",
                ["authorization"] = "Bearer secret",
            }));
            var sent = StreamMotionRequest.Parse(_web.Sent.AsSpan(GrpcBody.PrefixLength));
            Assert.That(sent.Prompt, Is.EqualTo("a person walks"));
            Cancel();
            Assert.That(call.Status, Is.EqualTo(TaskStatus.Canceled));
        }

        [Test]
        public void NothingIsReadBeforeTheResponseBegins()
        {
            _web.Answers = false;
            var call = Receive();
            Frames(20);
            Assert.That((call.IsCompleted, _received.Count), Is.EqualTo((false, 0)));
            _web.Answers = true;
            _web.Receive(Streams.WebBody(Streams.Complete(1)));
            Frames();
            Assert.That(call.Status, Is.EqualTo(TaskStatus.RanToCompletion));
        }

        [Test]
        public void AStatusInTheHeadersIsAFailure()
        {
            (_web.Headers["grpc-status"], _web.Headers["grpc-message"]) = ("16", "this server asks for a token");
            _web.Done = true;
            var call = Receive();
            Frames();
            Assert.That(Failure(call).Code, Is.EqualTo(StatusCode.Unauthenticated));
        }

        [TestCase(503L, StatusCode.Unavailable)]
        [TestCase(404L, StatusCode.Unimplemented)]
        public void AnAnswerOfSomethingBeforeTheServerIsMapped(long status, StatusCode code)
        {
            (_web.Status, _web.Done) = (status, true);
            var call = Receive();
            Frames();
            Assert.That(Failure(call).Code, Is.EqualTo(code));
        }

        [Test]
        public void AServerThatCannotBeReachedIsUnavailable()
        {
            (_web.Answers, _web.Error) = (false, "Cannot connect to destination host");
            var call = Receive();
            Frames();
            Assert.That(Failure(call).Code, Is.EqualTo(StatusCode.Unavailable));
            Assert.That(Failure(call).Detail, Does.Contain("bridge.example").And.Contain("Cannot connect"));
            Assert.That(_web.Aborted, Is.True, "released");
        }

        [TestCase("the connection was lost", "broke off")]
        [TestCase(null, "without a status")]
        public void AStreamThatEndsTooEarlyIsUnavailableAfterWhatCame(string error, string words)
        {
            var call = Receive();
            _web.Receive(Streams.WebBody(Streams.Complete(2).Take(3), null));
            (_web.Error, _web.Done) = (error, true);
            Frames();
            Assert.That(_received.Count, Is.EqualTo(3), "what came before is given first");
            Assert.That(Failure(call).Code, Is.EqualTo(StatusCode.Unavailable));
            Assert.That(Failure(call).Detail, Does.Contain(words));
        }

        [Test]
        public void CancellingEndsTheRequestInTheNextFrame()
        {
            var call = Receive();
            _web.Receive(Streams.WebBody(Streams.Complete(2).Take(3), null));
            Frames();
            Cancel();
            Assert.That(call.Status, Is.EqualTo(TaskStatus.Canceled));
            Assert.That((_web.Aborted, _received.Count), Is.EqualTo((true, 3)));
        }

        [Test]
        public void CancellingBeforeTheResponseBeginsEndsItToo()
        {
            _web.Answers = false;
            var call = Receive();
            Cancel();
            Assert.That((call.Status, _web.Aborted), Is.EqualTo((TaskStatus.Canceled, true)));
        }

        async Task Receive()
        {
            using var client = new MotionClient(
                new UnityWebRequestTransport(new Uri("http://bridge.example:50052")), "secret");
            var request = new StreamMotionRequest { Prompt = "a person walks" };
            await foreach (var next in client.StreamMotionAsync(request, null, _stop.Token)) _received.Add(next);
        }

        void Cancel()
        {
            _stop.Cancel();
            Frames();
        }

        // Each await goes on in the next frame; a dozen of them take a few.
        void Frames(int num = 5)
        {
            for (int i = 0; i < num; i++) _main.Run();
        }

        static RpcException Failure(Task call) => (RpcException)call.Exception?.InnerException;
    }
}
