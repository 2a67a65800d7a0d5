using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    /// <summary>Against a bridge that somebody has started.</summary>
    public class BridgeTests
    {
        const string WebAddress = "MOTION_R1_WEB_ADDRESS";
        const string RequestFile = "MOTION_R1_REQUEST_FILE";
        const string EventsFile = "MOTION_R1_EVENTS_FILE";

        static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

        static string Address => Environment.GetEnvironmentVariable(WebAddress);

        [SetUp]
        public void NeedABridge()
        {
            if (string.IsNullOrEmpty(Address))
                Assert.Ignore($"{WebAddress} is not set: start a bridge, then set it, like http://127.0.0.1:50052");
        }

        [Test]
        public void TheBridgeDescribesABodyThatThisClientCanBind()
        {
            using var client = Client();
            var model = MotionClientTests.Wait(() => client.GetModelAsync(Deadline)).Model;
            Assert.That(model.Skeleton.JointNames, Is.EqualTo(Rig.Names));
            Assert.That(model.Skeleton.Parents, Is.EqualTo(Rig.Parents));
            Assert.That(model.FrameRateHz, Is.GreaterThan(0));
            Assert.That(model.FramesPerCode, Is.GreaterThan(0));
        }

        [Test]
        public void AStreamPlaysFromItsFirstFrameToItsLast()
        {
            var events = Events(new StreamMotionRequest { Prompt = "a person walks forward", Seed = 7 });
            var buffer = new PlaybackBuffer(events[0].Header);
            var frame = new MotionFrame(buffer.NumJoints);
            var state = PlaybackState.Waiting;
            foreach (var chunk in events.Select(e => e.Chunk).Where(chunk => chunk != null))
                while (!buffer.TryAppend(chunk)) state = buffer.Advance(0.01, frame);
            buffer.End();
            while (state != PlaybackState.Finished) state = buffer.Advance(0.01, frame);
            var summary = events.Last().Summary;
            double lengthS = (summary.NumFrames - 1) / events[0].Header.Model.FrameRateHz;
            Assert.That(buffer.PlayheadS, Is.EqualTo(lengthS).Within(1e-5));
            Assert.That(buffer.NumUnderruns, Is.Zero);
        }

        [Test]
        public void WhatComesIsWrittenForComparison()
        {
            string request = Environment.GetEnvironmentVariable(RequestFile);
            string events = Environment.GetEnvironmentVariable(EventsFile);
            if (string.IsNullOrEmpty(request) || string.IsNullOrEmpty(events))
                Assert.Ignore($"{RequestFile} and {EventsFile} are not set: pytest sets them");
            File.WriteAllLines(events, Events(StreamMotionRequest.Parse(File.ReadAllBytes(request)))
                .Select(motionEvent => CodecTests.Hex(motionEvent.ToBytes())));
        }

        [Test]
        public void AnEmptyPromptIsTheCallersMistake()
        {
            Assert.That(() => Events(new StreamMotionRequest { Prompt = " " }), Fails.With(StatusCode.InvalidArgument));
        }

        static List<MotionEvent> Events(StreamMotionRequest request)
        {
            async Task<List<MotionEvent>> All()
            {
                using var client = Client();
                var events = new List<MotionEvent>();
                await foreach (var motionEvent in client.StreamMotionAsync(request, Deadline)) events.Add(motionEvent);
                return events;
            }
            return MotionClientTests.Wait(All);
        }

        static MotionClient Client() => new MotionClient(new HttpByteTransport(new Uri(Address)));
    }
}
