using System;
using System.Threading;
using MotionR1.Core;
using NUnit.Framework;
using Quaternion = System.Numerics.Quaternion;
using Vector3 = System.Numerics.Vector3;

namespace MotionR1.Tests
{
    // 20 frames a second, 4 frames a code; in frame f the root is at x = f.
    public class PlaybackBufferTests
    {
        const double FrameS = 1 / (double)Streams.RateHz;
        const double CodeS = Streams.FramesPerCode * FrameS;

        readonly MotionFrame _frame = new MotionFrame(1);

        [Test]
        public void ItStartsWithTwoFramesInHand()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Waiting));
            buffer.TryAppend(Streams.Chunk(0, 2), 0);
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Waiting));
            buffer.TryAppend(Streams.Chunk(2, 1), FrameS);
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(0));
        }

        [Test]
        public void ItShowsWhatLiesBetweenTwoFrames()
        {
            var buffer = Started(numCodes: 2);
            buffer.Advance(1.5 * FrameS, _frame);
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(1.5f).Within(1e-6));
            Assert.That(_frame.Contacts, Is.EqualTo(FootContacts.LeftAnkle));
            Assert.That(buffer.PlayheadS, Is.EqualTo(0.075).Within(1e-12));
        }

        [Test]
        public void RotationsTakeTheShorterArc()
        {
            // 10 degrees about Y, then -q of 30 degrees: the same as q. Halfway lies 20 degrees.
            var from = Quaternion.CreateFromAxisAngle(Vector3.UnitY, (float)(10 * Math.PI / 180));
            var to = Quaternion.Negate(Quaternion.CreateFromAxisAngle(Vector3.UnitY, (float)(30 * Math.PI / 180)));
            var chunk = Streams.Chunk(0, 2);
            chunk.JointRotations = Streams.Bytes(new[] { 0, from.Y, 0, from.W, 0, to.Y, 0, to.W });
            var buffer = new PlaybackBuffer(Streams.Header());
            buffer.TryAppend(chunk, 0);
            buffer.End();
            buffer.Advance(0, _frame);
            buffer.Advance(FrameS / 2, _frame);
            var expected = Quaternion.CreateFromAxisAngle(Vector3.UnitY, (float)(20 * Math.PI / 180));
            Assert.That(Math.Abs(Quaternion.Dot(_frame.JointRotations[0], expected)), Is.EqualTo(1).Within(1e-6));
        }

        [Test]
        public void RunDryItHoldsTheLastFrameAndGoesOnFromIt()
        {
            var buffer = Started(numCodes: 1);
            for (int i = 0; i < 3; i++)
            {
                Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Underrun));
                Assert.That(_frame.RootPositionM.X, Is.EqualTo(3));
            }
            Assert.That(buffer.NumUnderruns, Is.EqualTo(1));
            buffer.TryAppend(Streams.Chunk(4, 1), CodeS);
            Assert.That(buffer.Advance(FrameS, _frame), Is.EqualTo(PlaybackState.Underrun), "no lead yet");
            buffer.TryAppend(Streams.Chunk(5, 3), CodeS + FrameS);
            Assert.That(buffer.Advance(FrameS, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(4f).Within(1e-6));
        }

        [Test]
        public void ALeadThatIsTooShortSlowsItDownByAtMostATenth()
        {
            var buffer = Started(numCodes: 1);
            buffer.Advance(2 * FrameS, _frame);     // lead 3: full speed, to 2
            buffer.Advance(0.4 * FrameS, _frame);   // lead 1 of 2: 0.95 of the speed
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(2 + 0.4f * 0.95f).Within(1e-5));
        }

        [Test]
        public void JitterIsHowLateAChunkComesAndFades()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            buffer.TryAppend(Streams.Chunk(0), 10);
            buffer.TryAppend(Streams.Chunk(4), 10.35);  // its turn is 10.2
            Assert.That(buffer.JitterS, Is.EqualTo(0.15).Within(1e-9));
            Assert.That(buffer.TargetLeadS, Is.EqualTo(0.1 + 1.25 * 0.15).Within(1e-9));
            buffer.TryAppend(Streams.Chunk(8), 10.36);
            Assert.That(buffer.JitterS, Is.EqualTo(0.15 * 15 / 16).Within(1e-9));
        }

        [Test]
        public void TheLeadItWaitsForStaysACodeBelowTheServers()
        {
            var buffer = new PlaybackBuffer(Streams.Header(), maxLeadS: 1);
            buffer.TryAppend(Streams.Chunk(0), 0);
            buffer.TryAppend(Streams.Chunk(4), 100);
            Assert.That(buffer.TargetLeadS, Is.EqualTo(0.8).Within(1e-9));
        }

        [Test]
        public void FramesKeepTheirTimeHoweverTheyArrive()
        {
            var random = new Random(1);
            var buffer = new PlaybackBuffer(Streams.Header());
            double clockS = 0;
            int sent = 0;
            bool started = false;
            double shownAtS = 0;
            while (sent < 1000 || buffer.LeadS > 0.5)
            {
                clockS += 1 / 60.0;
                // The server is at most 1 s ahead, the network up to 0.1 s late.
                while (sent < 1000 && sent * FrameS < clockS + 1 - 0.1 * random.NextDouble() &&
                    buffer.TryAppend(Streams.Chunk(sent), clockS)) sent += Streams.FramesPerCode;
                var state = buffer.Advance(1 / 60.0, _frame);
                if (!started && state == PlaybackState.Playing) (started, shownAtS) = (true, clockS);
                if (started) Assert.That(_frame.RootPositionM.X * FrameS, Is.EqualTo(clockS - shownAtS).Within(1e-4));
            }
            Assert.That(buffer.NumUnderruns, Is.Zero);
            Assert.That(buffer.PlayheadS, Is.GreaterThan(49));
        }

        [Test]
        public void AFullBufferTakesTheChunkOnceItHasPlayedOne()
        {
            var buffer = Started(numCodes: 12);  // 2 (20 + 4) frames
            Assert.That(buffer.TryAppend(Streams.Chunk(48), 3), Is.False);
            buffer.Advance(4 * FrameS, _frame);
            Assert.That(buffer.TryAppend(Streams.Chunk(48), 3), Is.True);
            Assert.That(buffer.TryAppend(Streams.Chunk(52), 3), Is.False);
        }

        [Test]
        public void AfterTheEndItPlaysToTheLastFrame()
        {
            var buffer = Started(numCodes: 1);
            buffer.End();
            Assert.That(buffer.Advance(2.5 * FrameS, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(2.5f).Within(1e-6), "no slower towards the end");
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Finished));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(3));
            Assert.That(buffer.NumUnderruns, Is.Zero);
            Assert.That(() => buffer.TryAppend(Streams.Chunk(4), 1), Throws.InvalidOperationException);
        }

        [Test]
        public void AStreamThatEndsWithoutFramesIsFinished()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            buffer.End();
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Finished));
            Assert.That(buffer.HasFrames, Is.False);
        }

        [Test]
        public void WhatIsNotOnScreenYetCanBeReplaced()
        {
            var buffer = Started(numCodes: 3);
            buffer.Advance(1.5 * FrameS, _frame);
            Assert.That(buffer.FirstReplaceableFrame, Is.EqualTo(3));
            Assert.That(() => buffer.ReplaceFrom(2), Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(() => buffer.ReplaceFrom(13), Throws.TypeOf<ArgumentOutOfRangeException>());
            buffer.ReplaceFrom(4);
            var other = Streams.Chunk(4);
            other.RootPositionsM = Streams.Bytes(new float[] { 3, 1, 0, 3, 2, 0, 3, 3, 0, 3, 4, 0 });
            Assert.That(buffer.TryAppend(other, 0.6), Is.True);
            buffer.Advance(3.5 * FrameS, _frame);
            Assert.That(_frame.RootPositionM, Is.EqualTo(new Vector3(3, 2, 0)));
        }

        [TestCase(0f, 4)]
        [TestCase(float.NaN, 4)]
        [TestCase(1e9f, 4)]
        [TestCase(20f, 0)]
        [TestCase(20f, int.MaxValue)]
        public void AHeaderThatMakesNoSenseSizesNoBuffer(float rateHz, int framesPerCode)
        {
            var header = Streams.Header();
            (header.Model.FrameRateHz, header.Model.FramesPerCode) = (rateHz, framesPerCode);
            Assert.That(() => new PlaybackBuffer(header), Throws.TypeOf<WireFormatException>());
        }

        [TestCase(new[] { 0 }, 12)]
        [TestCase(new[] { -1, 1 }, 24)]
        [TestCase(new[] { -1, 0 }, 12)]
        [TestCase(new int[0], 0)]
        public void ASkeletonThatIsNoTreeIsRefused(int[] parents, int numBytes)
        {
            var header = Streams.Header(parents.Length);
            header.Model.Skeleton.Parents.Clear();
            header.Model.Skeleton.Parents.AddRange(parents);
            header.Model.Skeleton.RestOffsetsM = new byte[numBytes];
            Assert.That(() => new FrameReader(header), Throws.TypeOf<WireFormatException>());
        }

        [Test]
        public void AGapIsRefused()
        {
            var buffer = Started(numCodes: 1);
            Assert.That(() => buffer.TryAppend(Streams.Chunk(8), 0.2), Throws.TypeOf<WireFormatException>());
        }

        [Test]
        public void NoCallAllocates()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            var chunks = new Core.V1.FrameChunk[100];
            for (int i = 0; i < chunks.Length; i++) chunks[i] = Streams.Chunk(4 * i);
            Play(10, 0);
            long before = GC.GetAllocatedBytesForCurrentThread();
            Play(100, 10);
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);

            void Play(int upTo, int from)
            {
                for (int i = from; i < upTo; i++)
                {
                    buffer.TryAppend(chunks[i], i * CodeS);
                    buffer.Advance(CodeS, _frame);
                }
            }
        }

        [Test]
        public void NetworkAndGameMayBeTwoThreads()
        {
            const int numFrames = 4000;
            var buffer = new PlaybackBuffer(Streams.Header());
            var network = new Thread(() =>
            {
                for (int first = 0; first < numFrames; first += Streams.FramesPerCode)
                    while (!buffer.TryAppend(Streams.Chunk(first), first * FrameS)) Thread.Yield();
                buffer.End();
            });
            network.Start();
            float last = 0;
            while (buffer.Advance(0.7 * FrameS, _frame) != PlaybackState.Finished)
            {
                Assert.That(_frame.RootPositionM.X, Is.InRange(last, last + 0.71f));
                last = _frame.RootPositionM.X;
            }
            network.Join();
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(numFrames - 1));
        }

        PlaybackBuffer Started(int numCodes)
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            for (int code = 0; code < numCodes; code++)
                Assert.That(buffer.TryAppend(Streams.Chunk(code * Streams.FramesPerCode), code * CodeS), Is.True);
            Assert.That(buffer.Advance(0, _frame), Is.EqualTo(PlaybackState.Playing));
            return buffer;
        }
    }
}
