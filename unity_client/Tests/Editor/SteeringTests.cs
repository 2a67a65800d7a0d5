using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    public class SteeringTests
    {
        [Test]
        public void ATurnForgetsWhatIsNotShownAndCountsOn()
        {
            var motion = Recorded(5);
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            var events = All(client => client.SteerAsync(motion, 3, Asked("turn"), Takes(2)), transport);
            var sent = Sent(transport);
            Assert.That(sent.History.Codes, Is.EqualTo(new[] { Streams.FirstCode + 1, Streams.FirstCode + 2 }));
            Assert.That(sent.History.Root.ZM, Is.EqualTo(12));
            Assert.That(events.Where(e => e.Chunk != null).Select(e => e.Chunk.FirstFrame), Is.EqualTo(new[] { 12, 16 }));
            Assert.That((motion.NumFrames, motion.Chunks.Count, motion.PlanFirstFrame), Is.EqualTo((20, 5, 12)));
            Assert.That(motion.Codes(), Is.EqualTo(new[] { 0, 1, 2, 0, 1 }.Select(i => Streams.FirstCode + i)));
            Assert.That((motion.Summary.NumCodes, motion.Summary.NumFrames), Is.EqualTo((5, 20)));
            Assert.That(RecordedMotion.Parse(motion.ToBytes()).Codes(), Is.EqualTo(motion.Codes()));
        }

        [Test]
        public void ATurnAtTheVeryBeginningHasNoHistory()
        {
            var motion = Recorded(2);
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(1)));
            All(client => client.SteerAsync(motion, 0, Asked("turn"), Takes(2)), transport);
            Assert.That(Sent(transport).History, Is.Null);
            Assert.That(motion.NumFrames, Is.EqualTo(4));
        }

        [Test]
        public void ATurnBeyondWhatCameIsRefused()
        {
            var motion = Recorded(2);
            var transport = new ScriptedTransport(Array.Empty<byte>());
            Assert.That(() => All(client => client.SteerAsync(motion, 3, Asked("turn"), Takes(2)), transport),
                Throws.TypeOf<ArgumentOutOfRangeException>());
        }

        [Test]
        public void WhatIsLeftOfThePlanIsAskedForAgain()
        {
            var motion = Recorded(3);  // 0.6 s
            motion.Plan.Beats.Add(new Beat { Text = "walk", DurationS = 0.5f });
            motion.Plan.Beats.Add(new Beat { Text = "turn", DurationS = 0.4f });
            motion.Plan.Beats.Add(new Beat { Text = "sit", DurationS = 1 });
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            var request = Asked("walk, turn, sit");
            request.MaxDurationS = 2;
            All(client => client.ResumeAsync(motion, request, Takes(32)), transport);
            var sent = Sent(transport);
            Assert.That(sent.Beats.Select(beat => (beat.Text, beat.DurationS)),
                Is.EqualTo(new[] { ("turn", 0.3f), ("sit", 1f) }));
            Assert.That(sent.MaxDurationS, Is.EqualTo(1.2f).Within(1e-6), "1.9 s are 9 codes, 3 have come");
            Assert.That(sent.History.Codes.Count, Is.EqualTo(3));
            Assert.That(motion.Plan.Beats.Count, Is.EqualTo(3), "the plan is still the whole one");
            Assert.That(motion.NumFrames, Is.EqualTo(20));
        }

        [Test]
        public void WithoutAPlanWhatIsLeftOfTheTimeIsAskedFor()
        {
            var motion = Recorded(3, plans: false);  // 0.6 s
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            All(client => client.ResumeAsync(motion, Asked("walk"), Takes(32)), transport);
            Assert.That(Sent(transport).MaxDurationS, Is.EqualTo(9.4f).Within(1e-5), "of the 10 s that the server takes");
        }

        [Test]
        public void WhatIsLeftOfASingleBeatIsAPlanToo()
        {
            var motion = Recorded(3);
            motion.Plan.Beats.Add(new Beat { Text = "walk", DurationS = 1 });
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            All(client => client.ResumeAsync(motion, Asked("walk"), Takes(32)), transport);
            var sent = Sent(transport);
            Assert.That(sent.Reasoning, Is.EqualTo(Asked("walk").Reasoning));
            Assert.That(sent.Beats.Select(beat => (beat.Text, beat.DurationS)), Is.EqualTo(new[] { ("walk", 0.4f) }));
            Assert.That(sent.MaxDurationS, Is.EqualTo(0.4f).Within(1e-6));
        }

        [TestCase(4, null)]
        [TestCase(null, 0.5f)]
        public void AMotionChosenFromTakesIsAskedForAgainAndWhatIsHereIsPassedOver(int? bestOf, float? minQuality)
        {
            var motion = Recorded(3);
            motion.Plan.Beats.Add(new Beat { Text = "walk", DurationS = 1 });
            motion.RemoveFrom(3);
            var request = Chosen(bestOf, minQuality);
            var transport = new ScriptedTransport(Streams.WebBody(Measured(5)));
            var events = All(client => client.ResumeAsync(motion, request, Takes(32)), transport);
            Assert.That(Sent(transport).ToBytes(), Is.EqualTo(request.ToBytes()));
            Assert.That(events.Where(e => e.Chunk != null).Select(e => e.Chunk.FirstFrame), Is.EqualTo(new[] { 12, 16 }));
            Assert.That((motion.Chunks.Count, motion.Summary.NumCodes), Is.EqualTo((5, 5)));
            Assert.That(motion.Summary.Quality.Score, Is.EqualTo(0.5f), "the server has seen the whole");
        }

        [Test]
        public void OfATurnChosenFromTakesTheTurnIsAskedForAgain()
        {
            var motion = Recorded(5);
            var broken = new ScriptedTransport(Streams.WebBody(Streams.Complete(4).Take(4), "grpc-status: 14\r\n"));
            Assert.That(() => All(client => client.SteerAsync(motion, 3, Chosen(2, null), Takes(32)), broken),
                Fails.With(StatusCode.Unavailable, ""));
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(4)));
            All(client => client.ResumeAsync(motion, Chosen(2, null), Takes(32)), transport);
            Assert.That(Sent(transport).ToBytes(), Is.EqualTo(Sent(broken).ToBytes()));
            Assert.That(motion.Codes(), Is.EqualTo(new[] { 0, 1, 2, 0, 1, 2, 3 }.Select(i => Streams.FirstCode + i)));
            Assert.That((motion.Summary.NumCodes, motion.Summary.NumFrames), Is.EqualTo((7, 28)));
        }

        [Test]
        public void AnotherMotionThanTheOneThatBrokeOffIsRefused()
        {
            var motion = Recorded(3);
            motion.RemoveFrom(3);
            var others = Streams.Complete(5);
            others[3].Chunk.Code = 7;
            var transport = new ScriptedTransport(Streams.WebBody(others));
            Assert.That(() => All(client => client.ResumeAsync(motion, Chosen(2, null), Takes(32)), transport),
                Fails.With(StatusCode.FailedPrecondition, "code 7 at frame 4, it was 101"));
            Assert.That(motion.Chunks.Count, Is.EqualTo(3));
        }

        [Test]
        public void WhatAServerMeasuredOfAPartIsNotSaidOfTheWhole()
        {
            var motion = Recorded(3);
            All(client => client.ResumeAsync(motion, Asked("walk"), Takes(32)),
                new ScriptedTransport(Streams.WebBody(Measured(2))));
            Assert.That((motion.Summary.NumCodes, motion.Summary.Quality), Is.EqualTo((5, (QualityReport)null)));
            Assert.That((motion.Summary.FirstFrameMs, motion.Summary.TotalMs), Is.EqualTo((0f, 0f)));
            All(client => client.SteerAsync(motion, 2, Asked("turn"), Takes(32)),
                new ScriptedTransport(Streams.WebBody(Measured(2))));
            Assert.That(motion.Summary.Quality.Score, Is.EqualTo(0.5f), "a turn is the whole of its call");
        }

        [TestCase(0.5f, null)]  // its 2 codes have come, and one more
        [TestCase(5f, 0.6f)]
        [TestCase(null, 0.6f)]
        public void AMotionThatLacksNothingButItsSummaryIsClosedWithoutACall(float? planS, float? maxDurationS)
        {
            var motion = Recorded(3, plans: planS.HasValue);
            if (planS.HasValue) motion.Plan.Beats.Add(new Beat { Text = "walk", DurationS = planS.Value });
            motion.RemoveFrom(3);
            var transport = new ScriptedTransport(Array.Empty<byte>());
            var request = Asked("walk");
            request.MaxDurationS = maxDurationS;
            var events = All(client => client.ResumeAsync(motion, request, Takes(32)), transport);
            Assert.That(transport.Request, Is.Null);
            Assert.That(events.Single().Summary, Is.SameAs(motion.Summary));
            Assert.That((motion.Summary.NumCodes, motion.Summary.NumFrames), Is.EqualTo((3, 12)));
            Assert.That(RecordedMotion.Parse(motion.ToBytes()).NumFrames, Is.EqualTo(12));
        }

        [Test]
        public void AMotionThatWentOnFromAnotherOneKeepsThatHistory()
        {
            var motion = Recorded(2);
            var request = Asked("walk");
            request.History = new History { Root = new RootPlace { ZM = -1 } };
            request.History.Codes.AddRange(new long[] { 7, 8, 9 });
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(1)));
            All(client => client.ResumeAsync(motion, request, Takes(4)), transport);
            var history = Sent(transport).History;
            Assert.That(history.Codes, Is.EqualTo(new[] { 8, 9, Streams.FirstCode, Streams.FirstCode + 1 }));
            Assert.That(history.Root.ZM, Is.EqualTo(8));
        }

        [Test]
        public void AnotherBundlesServerIsRefusedSinceCodesMeanOtherMotionsThere()
        {
            var motion = Recorded(3);
            var others = Streams.Complete(2);
            others[0].Header.Model.Revision = "another";
            foreach (bool turns in new[] { false, true })
            {
                var transport = new ScriptedTransport(Streams.WebBody(others));
                Assert.That(() => All(client => turns ? client.SteerAsync(motion, 2, Asked("turn"), Takes(4))
                        : client.ResumeAsync(motion, Asked("walk"), Takes(4)), transport),
                    Fails.With(StatusCode.FailedPrecondition, "another"));
            }
            Assert.That((motion.NumFrames, motion.Header.Model.Revision), Is.EqualTo((8, "")));
        }

        [Test]
        public void NothingIsRecordedForACallerWhoHasTurnedAway()
        {
            var motion = Recorded(2);
            using var stop = new CancellationTokenSource();
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(3)));  // all in one read
            async Task<bool> TurnAway()
            {
                using var client = new MotionClient(transport);
                await foreach (var next in client.SteerAsync(motion, 2, Asked("turn"), Takes(4), null, stop.Token))
                    if (next.Chunk != null) stop.Cancel();
                return true;
            }
            Assert.That(() => MotionClientTests.Wait(TurnAway), Throws.InstanceOf<OperationCanceledException>());
            Assert.That(motion.Chunks.Count, Is.EqualTo(3));
        }

        [Test]
        public void APlanComesBeforeAnythingMoves()
        {
            var plan = new Plan { Text = "1. wave, 1.0 s" };
            plan.Beats.Add(new Beat { Text = "wave", DurationS = 1 });
            var body = GrpcBody.Frame(new PlanMotionResponse { Plan = plan })
                .Concat(Streams.WebBody(Array.Empty<MotionEvent>())).ToArray();
            var transport = new ScriptedTransport(body);
            using var client = new MotionClient(transport);
            var response = MotionClientTests.Wait(() => client.PlanMotionAsync(new PlanMotionRequest { Prompt = "hi" }));
            Assert.That(response.Plan.Beats.Single().Text, Is.EqualTo("wave"));
            Assert.That(transport.Request.Path, Is.EqualTo("/motion_r1.v1.MotionService/PlanMotion"));
        }

        [Test]
        public void DetailsOfAFailureAreThereForPrograms()
        {
            // google.rpc.Status with BadRequest, RetryInfo, ErrorInfo and a detail of a type that nobody knows.
            var details = Message(26, Any("BadRequest", Message(10, Text(10, "prompt").Concat(Text(18, "is empty")))))
                .Concat(Message(26, Any("RetryInfo", Message(10, new byte[] { 8, 2, 16, 128, 202, 181, 238, 1 }))))
                .Concat(Message(26, Any("ErrorInfo", Text(10, "BELOW_MIN_QUALITY"))))
                .Concat(Message(26, Any("DebugInfo", Text(10, "x"))));
            string header = Convert.ToBase64String(details.ToArray()).TrimEnd('=');
            string trailers = $"grpc-status: 3\r\ngrpc-status-details-bin: {header}\r\n";
            var body = Streams.WebBody(Array.Empty<MotionEvent>(), trailers);
            var error = Assert.Throws<RpcException>(() => MotionClientTests.Stream(new ScriptedTransport(body)));
            Assert.That(error.Details.FieldViolations.Single().Field, Is.EqualTo("prompt"));
            Assert.That(error.Details.FieldViolations.Single().Description, Is.EqualTo("is empty"));
            Assert.That(error.Details.RetryAfter.Value.TotalSeconds, Is.EqualTo(2.5).Within(1e-6));
            Assert.That(error.Details.Reason, Is.EqualTo("BELOW_MIN_QUALITY"));
        }

        [TestCase("%%%")]
        [TestCase("CgU")]
        public void DetailsThatDoNotParseLeaveTheStatusAsItIs(string header)
        {
            string trailers = $"grpc-status: 14\r\ngrpc-message: going down\r\ngrpc-status-details-bin: {header}\r\n";
            var body = Streams.WebBody(Array.Empty<MotionEvent>(), trailers);
            var error = Assert.Throws<RpcException>(() => MotionClientTests.Stream(new ScriptedTransport(body)));
            Assert.That((error.Code, error.Detail), Is.EqualTo((StatusCode.Unavailable, "going down")));
            Assert.That(error.Details, Is.SameAs(RpcDetails.None));
        }

        /// <summary>The header of details that say when to ask again.</summary>
        internal static string RetryAfter(byte seconds) =>
            Convert.ToBase64String(Message(26, Any("RetryInfo", Message(10, new byte[] { 8, seconds }))).ToArray());

        static IEnumerable<byte> Any(string type, IEnumerable<byte> value) =>
            Text(10, "type.googleapis.com/google.rpc." + type).Concat(Message(18, value));

        static IEnumerable<byte> Text(byte tag, string text) => Message(tag, text.Select(c => (byte)c));

        static IEnumerable<byte> Message(byte tag, IEnumerable<byte> content) =>
            new[] { tag, (byte)content.Count() }.Concat(content);

        static StreamMotionRequest Asked(string prompt) => new StreamMotionRequest { Prompt = prompt, Seed = 3 };

        static StreamMotionRequest Chosen(int? bestOf, float? minQuality)
        {
            var request = Asked("walk");
            (request.BestOf, request.MinQuality) = (bestOf, minQuality);
            return request;
        }

        static List<MotionEvent> Measured(int numCodes)
        {
            var events = Streams.Complete(numCodes);
            var summary = events[events.Count - 1].Summary;
            (summary.Quality, summary.FirstFrameMs, summary.TotalMs) = (new QualityReport { Score = 0.5f }, 50, 90);
            return events;
        }

        static StreamMotionRequest Sent(ScriptedTransport transport) =>
            StreamMotionRequest.Parse(transport.Request.Body.AsSpan(GrpcBody.PrefixLength));

        static RecordedMotion Recorded(int numCodes, bool plans = true)
        {
            var motion = new RecordedMotion();
            foreach (var next in Streams.Complete(numCodes))
                if (plans || next.Plan == null) motion.Add(next);
            return motion;
        }

        static Limits Takes(int maxHistoryCodes) =>
            new Limits { MaxHistoryCodes = maxHistoryCodes, MaxDurationS = 10 };

        static List<MotionEvent> All(Func<MotionClient, IAsyncEnumerable<MotionEvent>> call, IByteTransport transport)
        {
            async Task<List<MotionEvent>> Read()
            {
                using var client = new MotionClient(transport);
                var events = new List<MotionEvent>();
                await foreach (var next in call(client)) events.Add(next);
                return events;
            }
            return MotionClientTests.Wait(Read);
        }
    }
}
