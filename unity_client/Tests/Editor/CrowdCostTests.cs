using System;
using System.Diagnostics;
using System.Linq;
using System.Runtime.InteropServices;
using MotionR1.Core;
using NUnit.Framework;

namespace MotionR1.Tests
{
    /// <summary>What characters cost that play from their buffers.</summary>
    public class CrowdCostTests
    {
        const int NumCharacters = 100;

        readonly byte[] _otherMemory = new byte[4 << 20];

        // Frame by frame, as a game has it: between two frames it uses the caches for itself, for one character as for a
        // hundred. What grows faster than their number would be a lock, a search, memory that all of them share.
        [Test]
        public void AHundredCharactersCostAtMost110TimesOne()
        {
            const int numRounds = 5, numTries = 7;
            var random = new Random(13);
            var stage = Enumerable.Range(0, NumCharacters).Select(_ => new Character(random)).ToArray();
            void All()
            {
                foreach (var character in stage) character.Update();
            }
            for (int i = 0; i < 60; i++) All();
            var (ratios, hot) = (new double[numRounds], new double[numRounds]);
            double clockS = Enumerable.Range(0, 100).Min(_ => Seconds(() => { }));
            for (int round = 0; round < numRounds; round++)
            {
                double all = double.PositiveInfinity, allHot = all;
                // Each character alone as well, since some stand easier than others.
                var one = Enumerable.Repeat(all, NumCharacters).ToArray();
                var oneHot = one.ToArray();
                for (int i = 0; i < numTries; i++)
                {
                    UseCaches();
                    all = Math.Min(all, Seconds(All) - clockS);
                    allHot = Math.Min(allHot, Seconds(All) - clockS);
                    for (int c = 0; c < NumCharacters; c++)
                    {
                        UseCaches();
                        one[c] = Math.Min(one[c], Seconds(stage[c].Update) - clockS);
                        oneHot[c] = Math.Min(oneHot[c], Seconds(stage[c].Update) - clockS);
                    }
                }
                (ratios[round], hot[round]) = (all / one.Average(), allHot / oneHot.Average());
            }
            Array.Sort(ratios);
            Array.Sort(hot);
            TestContext.WriteLine($"100 characters cost {string.Join(", ", ratios.Select(r => $"{r:0.0}"))} times one; " +
                $"with nothing else in the caches {hot[numRounds / 2]:0.0} times");
            Assert.That(ratios[numRounds / 2], Is.LessThanOrEqualTo(110));
            foreach (var character in stage) character.Dispose();
        }

        [Test]
        public void APlayingCharacterAllocatesNothing()
        {
            using var character = new Character(new Random(14));
            for (int i = 0; i < 20; i++) character.Update();
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 500; i++) character.Update();
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        }

        void UseCaches()
        {
            for (int i = 0; i < _otherMemory.Length; i += 64) _otherMemory[i]++;
        }

        static double Seconds(Action run)
        {
            double began = NowS();
            run();
            return NowS() - began;
        }

        // This thread's own time where the system tells it: what else runs on the machine does not count.
        static double NowS()
        {
            if (!RuntimeInformation.IsOSPlatform(OSPlatform.Linux))
                return Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency;
            const int threadCpuTime = 3;
            if (clock_gettime(threadCpuTime, out var now) != 0) throw new InvalidOperationException("no clock");
            return now.Seconds + now.Nanoseconds * 1e-9;
        }

        [DllImport("libc")]
        static extern int clock_gettime(int clock, out TimeOfClock time);

        struct TimeOfClock
        {
            public long Seconds, Nanoseconds;
        }

        /// <summary>Plays from a buffer that is filled as fast as it empties.</summary>
        sealed class Character : IDisposable
        {
            readonly Rig _rig;
            readonly HumanoidRetargeter _retargeter;
            readonly PlaybackBuffer _buffer;
            readonly MotionFrame _frame = new MotionFrame(Rig.Names.Length);
            readonly Core.V1.FrameChunk _chunk = Streams.Chunk(0, numJoints: Rig.Names.Length);

            public Character(Random random)
            {
                _rig = new Rig(random);
                _retargeter = new HumanoidRetargeter(_rig.AddAnimator(), Rig.Skeleton());
                _buffer = new PlaybackBuffer(Streams.Header(Rig.Names.Length));
            }

            public void Update()
            {
                if (_buffer.LeadS < 0.5 && _buffer.TryAppend(_chunk)) _chunk.FirstFrame += Streams.FramesPerCode;
                if (_buffer.Advance(1 / 60.0, _frame) != PlaybackState.Waiting)
                    _retargeter.Apply(_frame, 1 / 60f);
            }

            public void Dispose() => _rig.Dispose();
        }
    }
}
