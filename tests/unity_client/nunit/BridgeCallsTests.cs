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
    /// <summary>Every call, over gRPC-Web and over HTTP/2, against the real bridge that pytest has started.</summary>
    [TestFixture(false)]
    [TestFixture(true)]
    public class BridgeCallsTests
    {
        const string CallsFolder = "MOTION_R1_CALLS_FOLDER";
        const string KillFolder = "MOTION_R1_KILL_FOLDER";

        static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

        readonly bool _native;

        public BridgeCallsTests(bool native) => _native = native;

        [SetUp]
        public void NeedABridge() => NativeGrpcTests.RequireAddresses();

        [Test]
        public void APlanIsActedOutBeatByBeat()
        {
            using var client = Client();
            var request = new PlanMotionRequest { Prompt = "a person walks forward.", Seed = 3 };
            var plan = Wait(() => client.PlanMotionAsync(request, Deadline)).Plan;
            Assert.That(plan.Beats, Is.Not.Empty);
            var asked = new StreamMotionRequest { Prompt = request.Prompt, Seed = 3 };
            asked.Beats.AddRange(plan.Beats);
            var motion = Record(client.StreamMotionAsync(asked, Deadline));
            Assert.That(motion.Plan.Beats.Select(Hex), Is.EqualTo(plan.Beats.Select(Hex)));
            Assert.That(motion.Summary.NumFrames, Is.EqualTo(motion.NumFrames).And.GreaterThan(0));
        }

        [Test]
        public void CodesDecodeToTheSameFramesBitForBit()
        {
            using var client = Client();
            var motion = Made(client);
            var request = new DecodeMotionRequest();
            request.Codes.AddRange(motion.Codes());
            var decoded = Record(client.DecodeMotionAsync(request, Deadline));
            Assert.That(decoded.Chunks.Select(Hex), Is.EqualTo(motion.Chunks.Select(Hex)));
        }

        [Test]
        public void ATurnGoesOnWithoutASeam()
        {
            using var client = Client();
            var motion = Made(client);
            int half = motion.Chunks.Count / 2;
            var kept = motion.Chunks.Take(half).Select(Hex).ToArray();
            var turn = new StreamMotionRequest { Prompt = "a person does a squat.", Seed = 5 };
            Drain(client.SteerAsync(motion, half, turn, Limits(client), Deadline));
            Assert.That(motion.Chunks.Take(half).Select(Hex), Is.EqualTo(kept), "what was shown stays");
            Assert.That(motion.Chunks.Count, Is.GreaterThan(half));
            var (before, after) = (new MotionFrame(22), new MotionFrame(22));
            motion.ReadFrame(half * 4 - 1, before);
            motion.ReadFrame(half * 4, after);
            Assert.That((after.RootPositionM - before.RootPositionM).Length(), Is.LessThan(0.25f), "metres in a frame");
        }

        [Test]
        public void AMotionThatBrokeOffIsTakenUpWithTheBeatsThatWereLeft()
        {
            using var client = Client();
            var request = Asked();
            var motion = Made(client);
            int half = motion.Chunks.Count / 2;
            motion.RemoveFrom(half);
            Drain(client.ResumeAsync(motion, request, Limits(client), Deadline));
            Assert.That(motion.Summary.NumCodes, Is.EqualTo(motion.Chunks.Count).And.GreaterThan(half));
        }

        [Test]
        public void ACancelledStreamEnds()
        {
            using var client = Client();
            using var stop = new CancellationTokenSource();
            var request = Asked();
            request.Pacing = new Pacing { Mode = PacingMode.Realtime, MaxLeadS = 0.2f };
            async Task<int> Listen()
            {
                int num = 0;
                await foreach (var next in client.StreamMotionAsync(request, null, stop.Token))
                {
                    num++;
                    if (next.Chunk != null) stop.Cancel();
                }
                return num;
            }
            Assert.That(() => Wait(Listen), Throws.InstanceOf<OperationCanceledException>());
        }

        [Test]
        public void EveryWrongFieldIsNamed()
        {
            var request = new StreamMotionRequest { Prompt = " ", MaxDurationS = -1 };
            var error = Assert.Throws<RpcException>(() => Record(Client().StreamMotionAsync(request, Deadline)));
            Assert.That(error.Code, Is.EqualTo(StatusCode.InvalidArgument));
            Assert.That(error.Details.FieldViolations.Select(violation => violation.Field),
                Is.SupersetOf(new[] { "prompt", "max_duration_s" }));
        }

        [Test]
        public void ADeadlineOfAMillisecondPasses()
        {
            Assert.That(() => Record(Client().StreamMotionAsync(Asked(), TimeSpan.FromMilliseconds(1))),
                Fails.With(StatusCode.DeadlineExceeded));
        }

        [Test]
        public void AQualityThatNobodyReachesIsAborted()
        {
            var request = Asked();
            request.MinQuality = 1;
            var error = Assert.Throws<RpcException>(() => Record(Client().StreamMotionAsync(request, Deadline)));
            Assert.That((error.Code, error.Details.Reason), Is.EqualTo((StatusCode.Aborted, "BELOW_MIN_QUALITY")));
        }

        [Test]
        public void WhatPythonAskedForComesTheSame()
        {
            string folder = Folder(CallsFolder);
            using var client = Client();
            foreach (string path in Directory.GetFiles(folder, "*.request"))
            {
                var bytes = File.ReadAllBytes(path);
                var events = Path.GetFileName(path).StartsWith("decode", StringComparison.Ordinal)
                    ? client.DecodeMotionAsync(DecodeMotionRequest.Parse(bytes), Deadline)
                    : client.StreamMotionAsync(StreamMotionRequest.Parse(bytes), Deadline);
                var lines = Drain(events).Where(next => next.Chunk != null).Select(next => Hex(next.Chunk));
                File.WriteAllLines($"{path}.{(_native ? "native" : "web")}", lines);
            }
        }

        [Test]
        public void AStreamGoesOnAfterTheServerWasKilledAndStartedAgain()
        {
            string folder = Folder(KillFolder);
            string me = _native ? "native" : "web";
            using var client = Client();
            var request = Asked();
            request.Pacing = new Pacing { Mode = PacingMode.Realtime, MaxLeadS = 0.2f };
            var limits = Limits(client);
            var motion = new RecordedMotion();
            async Task<bool> Break()
            {
                await foreach (var next in client.StreamMotionAsync(request, Deadline))
                {
                    motion.Add(next);
                    if (motion.Chunks.Count == 2 && next.Chunk != null)
                        File.WriteAllText(Path.Combine(folder, me + ".kill"), "");
                }
                return true;
            }
            Assert.That(() => Wait(Break), Fails.With(StatusCode.Unavailable));
            int broke = motion.Chunks.Count;
            var kept = motion.Chunks.Select(Hex).ToArray();
            Assert.That((broke, motion.Summary), Is.EqualTo((broke, (StreamSummary)null)));
            string again = Path.Combine(folder, me + ".again");
            for (int i = 0; i < 1200 && !File.Exists(again); i++) Thread.Sleep(50);
            Drain(client.ResumeAsync(motion, request, limits, Deadline));
            Assert.That(motion.Summary, Is.Not.Null);
            Assert.That(motion.Chunks.Take(broke).Select(Hex), Is.EqualTo(kept));
            Assert.That(motion.Chunks.Count, Is.GreaterThan(broke));
        }

        MotionClient Client() => new MotionClient(_native ? NativeGrpcTests.Native() : NativeGrpcTests.Web());

        static StreamMotionRequest Asked() => new StreamMotionRequest { Prompt = "a person walks forward.", Seed = 3 };

        static RecordedMotion Made(MotionClient client) => Record(client.StreamMotionAsync(Asked(), Deadline));

        static Limits Limits(MotionClient client) => Wait(() => client.GetModelAsync(Deadline)).Limits;

        static string Folder(string name)
        {
            string folder = Environment.GetEnvironmentVariable(name);
            if (string.IsNullOrEmpty(folder)) Assert.Ignore($"{name} is not set: pytest sets it");
            return folder;
        }

        static RecordedMotion Record(IAsyncEnumerable<MotionEvent> events)
        {
            var motion = new RecordedMotion();
            foreach (var next in Drain(events)) motion.Add(next);
            return motion;
        }

        static List<MotionEvent> Drain(IAsyncEnumerable<MotionEvent> events)
        {
            async Task<List<MotionEvent>> All()
            {
                var all = new List<MotionEvent>();
                await foreach (var next in events) all.Add(next);
                return all;
            }
            return Wait(All);
        }

        static string Hex(IWireMessage message) => CodecTests.Hex(message.ToBytes());

        static T Wait<T>(Func<Task<T>> run) => MotionClientTests.Wait(run);
    }
}
