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
        public void ItStartsOnceTheSecondChunkSaysHowLateChunksCome()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Waiting));
            buffer.TryAppend(Streams.Chunk(0));
            Assert.That(buffer.Advance(CodeS, _frame), Is.EqualTo(PlaybackState.Waiting));
            buffer.TryAppend(Streams.Chunk(4));
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
            buffer.TryAppend(chunk);
            buffer.End();
            buffer.Advance(0, _frame);
            buffer.Advance(FrameS / 2, _frame);
            var expected = Quaternion.CreateFromAxisAngle(Vector3.UnitY, (float)(20 * Math.PI / 180));
            Assert.That(Math.Abs(Quaternion.Dot(_frame.JointRotations[0], expected)), Is.EqualTo(1).Within(1e-6));
        }

        [Test]
        public void RunDryItHoldsTheLastFrameAndGoesOnFromIt()
        {
            var buffer = Started(numCodes: 2);
            for (int i = 0; i < 3; i++)
            {
                Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Underrun));
                Assert.That(_frame.RootPositionM.X, Is.EqualTo(7));
            }
            Assert.That(buffer.NumUnderruns, Is.EqualTo(1));
            buffer.TryAppend(Streams.Chunk(8, 1));
            Assert.That(buffer.Advance(FrameS, _frame), Is.EqualTo(PlaybackState.Underrun), "no lead yet");
            buffer.TryAppend(Streams.Chunk(9, 3));
            Assert.That(buffer.Advance(FrameS, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(_frame.RootPositionM.X, Is.InRange(7.9f, 8.1f));
        }

        [Test]
        public void WhatIsHeldFadesIntoIdleAndComesBack()
        {
            var buffer = Started(numCodes: 2);
            buffer.Advance(1, _frame);
            buffer.Advance(PlaybackBuffer.HoldS, _frame);
            Assert.That(buffer.IdleWeight, Is.Zero, "held");
            buffer.Advance(PlaybackBuffer.FadeS, _frame);
            Assert.That(buffer.IdleWeight, Is.EqualTo(1).Within(1e-9));
            for (int i = 2; i < 6; i++) buffer.TryAppend(Streams.Chunk(4 * i));
            buffer.Advance(PlaybackBuffer.FadeS / 2, _frame);
            Assert.That(buffer.IdleWeight, Is.EqualTo(0.5).Within(1e-9));
            buffer.Advance(PlaybackBuffer.FadeS / 2, _frame);
            Assert.That(buffer.IdleWeight, Is.Zero);
        }

        [Test]
        public void AFrameThatIsLateByLessIsHeldWithoutFading()
        {
            var buffer = Started(numCodes: 2);
            Assert.That(buffer.Advance(2 * CodeS, _frame), Is.EqualTo(PlaybackState.Underrun));
            buffer.Advance(0.9 * PlaybackBuffer.HoldS, _frame);
            buffer.TryAppend(Streams.Chunk(8));
            Assert.That(buffer.Advance(0.01, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(buffer.IdleWeight, Is.Zero);
        }

        [Test]
        public void AServerThatRunsAheadIsNotCaughtUpWith()
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            int sent = 0;
            double clockS = 0;
            for (; clockS < 20; clockS += 0.01)
            {
                while (sent * FrameS < clockS + 1) sent += Append(buffer, sent);
                buffer.Advance(clockS == 0 ? 0 : 0.01, _frame);
            }
            Assert.That(buffer.PlayheadS, Is.EqualTo(clockS - 0.01).Within(0.02));
            Assert.That(buffer.LeadS, Is.GreaterThan(0.9));
        }

        [Test]
        public void TheDelayFollowsTheJitterByAtMostATenthOfTheSpeed()
        {
            var random = new Random(2);
            var buffer = new PlaybackBuffer(Streams.Header());
            double clockS = 0, before = 0;
            int sent = 0;
            double[] delays = { 0, 0, 0 };
            double arrivesS = 0;
            for (int tick = 0; tick < 60 * 120; tick++, clockS += 1 / 60.0)
            {
                double jitterS = tick < 60 * 40 ? 0.02 : tick < 60 * 80 ? 0.3 : 0.02;
                while (arrivesS <= clockS)
                {
                    sent += Append(buffer, sent);
                    arrivesS = Math.Max(arrivesS, sent * FrameS + jitterS * random.NextDouble());
                }
                buffer.Advance(1 / 60.0, _frame);
                double step = (buffer.PlayheadS - before) * 60;
                if (buffer.State == PlaybackState.Playing && tick > 60)
                    Assert.That(step, Is.InRange(0, 1.1 + 1e-9));
                before = buffer.PlayheadS;
                if (tick % (60 * 40) == 60 * 40 - 1) delays[tick / (60 * 40)] = buffer.DelayS;
            }
            Assert.That(delays[1], Is.InRange(delays[0] + 0.2, delays[0] + 0.35));
            Assert.That(delays[2], Is.LessThan(delays[0] + 0.05), "and back");
            Assert.That(buffer.JitterS, Is.LessThan(0.03));
        }

        // A server that sends in real time; a network that delays each chunk by 0 to 200 ms and stalls for 400 ms more in
        // 2 of 100, in order. Nothing may be shown that was not received, and the whole delay between a frame's time and
        // its showing, what the buffer needs anyway included, is bounded by the jitter.
        [Test]
        public void TenThousandSecondsOfJitterAndStallsArePlayedWithoutInvention()
        {
            const double lengthS = 10_000;
            var calm = Simulate(lengthS / 10, new Random(5), 0, 0);
            var rough = Simulate(lengthS, new Random(5), 0.2, 0.02);
            TestContext.WriteLine($"p95 of the jitter {rough.p95S * 1000:0} ms, mean delay {rough.meanDelayS * 1000:0} ms, " +
                $"without jitter {calm.meanDelayS * 1000:0} ms, {rough.numStalls} stalls, {rough.numUnderruns} underruns");
            Assert.That(calm.numUnderruns, Is.Zero);
            Assert.That(rough.meanDelayS, Is.LessThanOrEqualTo(1.5 * rough.p95S));
            Assert.That(rough.numUnderruns, Is.InRange(rough.numStalls / 2, rough.numStalls * 1.3), "stalls, no more");
        }

        (double p95S, double meanDelayS, int numStalls, int numUnderruns) Simulate(double lengthS, Random random,
            double jitterS, double stallShare)
        {
            const double tickS = 1 / 60.0;
            var buffer = new PlaybackBuffer(Streams.Header());
            var delaysS = new System.Collections.Generic.List<double>();
            var chunk = Streams.Chunk(0);
            double clockS = 0, arrivesS = 0, sumS = 0, last = 0;
            int sent = 0, num = 0, numStalls = 0, seen = 0;
            var state = PlaybackState.Waiting;
            Next();
            for (; clockS < lengthS; clockS += tickS)
            {
                while (arrivesS <= clockS)
                {
                    // One chunk serves for all: frame f is at x = f mod 4096, which floats keep exact enough.
                    chunk.FirstFrame = sent;
                    for (int i = 0; i < Streams.FramesPerCode; i++)
                        BitConverter.GetBytes((float)((sent + i) % 4096)).CopyTo(chunk.RootPositionsM, 12 * i);
                    Assert.That(buffer.TryAppend(chunk), Is.True);
                    sent += Streams.FramesPerCode;
                    Next();
                }
                var now = buffer.Advance(tickS, _frame);
                if (now == PlaybackState.Waiting) continue;
                double playhead = buffer.PlayheadS / FrameS;
                Assert.That(playhead, Is.LessThanOrEqualTo(sent - 1 + 1e-9), "nothing is extrapolated");
                Assert.That(playhead, Is.GreaterThanOrEqualTo(last), "and nothing is shown again");
                int frame = (int)playhead;
                if (frame % 4096 != 4095)
                    Assert.That(_frame.RootPositionM.X, Is.EqualTo(playhead % 4096).Within(2e-3));
                if (now == PlaybackState.Underrun && state != PlaybackState.Underrun) seen++;
                (last, state) = (playhead, now);
                sumS += clockS - buffer.PlayheadS;
                num++;
            }
            Assert.That(buffer.NumUnderruns, Is.EqualTo(seen), "every underrun is reported");
            delaysS.Sort();
            return (delaysS[(int)(0.95 * delaysS.Count)], sumS / num, numStalls, seen);

            void Next()
            {
                bool stalls = random.NextDouble() < stallShare;
                double delayS = jitterS * random.NextDouble() + (stalls ? 0.4 : 0);
                delaysS.Add(delayS);
                if (stalls) numStalls++;
                arrivesS = Math.Max(arrivesS, sent * FrameS + delayS);
            }
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
                while (sent < 1000 && sent * FrameS < clockS + 1 - 0.1 * random.NextDouble())
                    sent += Append(buffer, sent);
                var state = buffer.Advance(1 / 60.0, _frame);
                if (!started && state == PlaybackState.Playing) (started, shownAtS) = (true, clockS);
                if (started) Assert.That(_frame.RootPositionM.X * FrameS, Is.EqualTo(clockS - shownAtS).Within(0.02));
            }
            Assert.That(buffer.NumUnderruns, Is.Zero);
            Assert.That(buffer.PlayheadS, Is.GreaterThan(49));
        }

        [Test]
        public void AFullBufferTakesTheChunkOnceItHasPlayedOne()
        {
            var buffer = Started(numCodes: 12);  // 2 (20 + 4) frames
            Assert.That(buffer.TryAppend(Streams.Chunk(48)), Is.False);
            buffer.Advance(4 * FrameS, _frame);
            Assert.That(buffer.TryAppend(Streams.Chunk(48)), Is.True);
            Assert.That(buffer.TryAppend(Streams.Chunk(52)), Is.False);
        }

        [Test]
        public void AfterTheEndItPlaysToTheLastFrame()
        {
            var buffer = Started(numCodes: 2);
            buffer.End();
            Assert.That(buffer.Advance(6.5 * FrameS, _frame), Is.EqualTo(PlaybackState.Playing));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(6.5f).Within(1e-5), "no slower towards the end");
            Assert.That(buffer.Advance(1, _frame), Is.EqualTo(PlaybackState.Finished));
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(7));
            Assert.That(buffer.NumUnderruns, Is.Zero);
            Assert.That(() => buffer.TryAppend(Streams.Chunk(8)), Throws.InvalidOperationException);
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
            Assert.That(buffer.TryAppend(other), Is.True);
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
            var buffer = Started(numCodes: 2);
            Assert.That(() => buffer.TryAppend(Streams.Chunk(12)), Throws.TypeOf<WireFormatException>());
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
                    buffer.TryAppend(chunks[i]);
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
                    while (!buffer.TryAppend(Streams.Chunk(first))) Thread.Yield();
                buffer.End();
            });
            network.Start();
            float last = 0;
            while (buffer.Advance(0.7 * FrameS, _frame) != PlaybackState.Finished)
            {
                Assert.That(_frame.RootPositionM.X, Is.InRange(last, last + 0.78f));
                last = _frame.RootPositionM.X;
            }
            network.Join();
            Assert.That(_frame.RootPositionM.X, Is.EqualTo(numFrames - 1));
        }

        static int Append(PlaybackBuffer buffer, int firstFrame)
        {
            Assert.That(buffer.TryAppend(Streams.Chunk(firstFrame)), Is.True);
            return Streams.FramesPerCode;
        }

        PlaybackBuffer Started(int numCodes)
        {
            var buffer = new PlaybackBuffer(Streams.Header());
            for (int code = 0; code < numCodes; code++)
                Assert.That(buffer.TryAppend(Streams.Chunk(code * Streams.FramesPerCode)), Is.True);
            Assert.That(buffer.Advance(0, _frame), Is.EqualTo(PlaybackState.Playing));
            return buffer;
        }
    }
}
