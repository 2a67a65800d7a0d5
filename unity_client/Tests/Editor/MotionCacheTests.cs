using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    public class MotionCacheTests
    {
        string _folder;

        [SetUp]
        public void NameAFolder() => _folder = Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString("N"));

        [TearDown]
        public void RemoveIt()
        {
            if (Directory.Exists(_folder)) Directory.Delete(_folder, true);
        }

        [Test]
        public void TheSameRequestFindsTheSameMotion()
        {
            var cache = new MotionCache();
            cache.Add(Asked("wave"), Motion(3));
            Assert.That(cache.TryGet(Asked("wave"), out var found), Is.True);
            Assert.That(found.ToBytes(), Is.EqualTo(Motion(3).ToBytes()));
            var other = Asked("wave");
            other.Seed++;
            Assert.That(cache.TryGet(other, out _), Is.False);
            Assert.That(cache.TryGet(Asked("walk"), out _), Is.False);
        }

        [Test]
        public void HowFastFramesAreSentIsNotPartOfTheRequest()
        {
            var cache = new MotionCache();
            cache.Add(Asked("wave"), Motion(3));
            var paced = Asked("wave");
            paced.Pacing = new Pacing { Mode = PacingMode.Realtime };
            Assert.That(cache.TryGet(paced, out _), Is.True);
        }

        [Test]
        public void AFolderOutlivesTheGame()
        {
            new MotionCache(folder: _folder).Add(Asked("wave"), Motion(2));
            Assert.That(new MotionCache(folder: _folder).TryGet(Asked("wave"), out var found), Is.True);
            Assert.That(found.Codes(), Is.EqualTo(new[] { Streams.FirstCode, Streams.FirstCode + 1 }));
            Assert.That(Directory.GetFiles(_folder).Single(), Does.EndWith(MotionCache.Extension));
        }

        [Test]
        public void WhatWasUsedLeastRecentlyGoesFirst()
        {
            int size = Motion(4).ToBytes().Length;
            var cache = new MotionCache(2 * size);
            cache.Add(Asked("a"), Motion(4));
            cache.Add(Asked("b"), Motion(4));
            cache.TryGet(Asked("a"), out _);
            cache.Add(Asked("c"), Motion(4));
            Assert.That("abc".Select(name => cache.TryGet(Asked(name.ToString()), out _)),
                Is.EqualTo(new[] { true, false, true }));
            Assert.That(cache.NumBytes, Is.EqualTo(2 * size));
        }

        [Test]
        public void FilesKeepTheLimitToo()
        {
            int size = Motion(4).ToBytes().Length;
            var cache = new MotionCache(2 * size, _folder);
            for (int i = 0; i < 5; i++)
            {
                cache.Add(Asked($"{i}"), Motion(4));
                foreach (string file in Directory.GetFiles(_folder))
                    File.SetLastWriteTimeUtc(file, File.GetLastWriteTimeUtc(file).AddSeconds(-10));
            }
            Assert.That(Directory.GetFiles(_folder).Length, Is.EqualTo(2));
            Assert.That(new MotionCache(2 * size, _folder).TryGet(Asked("4"), out _), Is.True);
        }

        [Test]
        public void ADamagedFileIsNamed()
        {
            new MotionCache(folder: _folder).Add(Asked("wave"), Motion(2));
            string path = Directory.GetFiles(_folder).Single();
            var bytes = File.ReadAllBytes(path);
            File.WriteAllBytes(path, bytes.Take(bytes.Length - 3).ToArray());
            Assert.That(() => new MotionCache(folder: _folder).TryGet(Asked("wave"), out _),
                Throws.TypeOf<WireFormatException>().With.Message.Contains(path));
        }

        [Test]
        public void CachesThatShareAFolderWriteItOneAfterAnother()
        {
            var caches = Enumerable.Range(0, 20).Select(_ => new MotionCache(folder: _folder)).ToArray();
            var writes = caches.Select(cache => cache.AddInMemory(Asked("wave"), Motion(40))).ToArray();
            Assert.That(caches.Select(cache => cache.TryGet(Asked("wave"), out _)), Has.All.True);
            Assert.That(Directory.Exists(_folder), Is.False, "nothing is written yet");
            Parallel.Invoke(writes);
            Assert.That(new MotionCache(folder: _folder).TryGet(Asked("wave"), out var found), Is.True);
            Assert.That((found.Chunks.Count, Directory.GetFiles(_folder).Length), Is.EqualTo((40, 1)));
        }

        [Test]
        public void AnIncompleteMotionIsNotKept()
        {
            var motion = Motion(3);
            motion.RemoveFrom(2);
            Assert.That(() => new MotionCache().Add(Asked("wave"), motion), Throws.ArgumentException);
        }

        [Test]
        public void ARecordedMotionRefusesAGap()
        {
            var motion = new RecordedMotion();
            motion.Add(new MotionEvent { Header = Streams.Header() });
            motion.Add(new MotionEvent { Chunk = Streams.Chunk(0) });
            Assert.That(() => motion.Add(new MotionEvent { Chunk = Streams.Chunk(8) }),
                Throws.TypeOf<WireFormatException>());
        }

        static StreamMotionRequest Asked(string prompt) => new StreamMotionRequest { Prompt = prompt, Seed = 3 };

        static RecordedMotion Motion(int numCodes)
        {
            var motion = new RecordedMotion();
            foreach (var next in Streams.Complete(numCodes)) motion.Add(next);
            return motion;
        }
    }
}
