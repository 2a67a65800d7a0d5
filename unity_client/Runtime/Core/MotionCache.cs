using System;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>Keeps complete motions by what was asked for: the same request finds the same motion, whether or not a
    /// server can be reached. In memory and, if it is given a folder, in files that outlive the game. What was used
    /// least recently goes first. One thread at a time, but for what writes files.</summary>
    public sealed class MotionCache
    {
        /// <summary>Ending of the files.</summary>
        public const string Extension = ".motion";

        static readonly object Writing = new object();  // caches may share a folder

        readonly long _maxBytes;
        readonly string _folder;
        readonly LinkedList<Entry> _entries = new LinkedList<Entry>();  // most recently used first
        readonly Dictionary<string, LinkedListNode<Entry>> _byKey = new Dictionary<string, LinkedListNode<Entry>>();

        /// <summary>An empty cache, or what a folder holds.</summary>
        /// <param name="maxBytes">How much it keeps, in memory and in files each; 10 s of motion are about 75,000.</param>
        /// <param name="folder">Where files go; it is made when it is needed. Null: memory only.</param>
        public MotionCache(long maxBytes = 32 << 20, string folder = null)
        {
            if (maxBytes <= 0)
                throw new ArgumentOutOfRangeException(nameof(maxBytes), $"expected more than 0, got {maxBytes}");
            (_maxBytes, _folder) = (maxBytes, folder);
        }

        /// <summary>Bytes in memory.</summary>
        public long NumBytes { get; private set; }

        /// <summary>Keeps what a request gave. Incomplete motions are refused.</summary>
        public void Add(StreamMotionRequest request, RecordedMotion motion) => AddInMemory(request, motion)();

        /// <summary>Does what <see cref="Add"/> does, but for the file: what is returned writes it, on any thread, since
        /// disks can be slow.</summary>
        public Action AddInMemory(StreamMotionRequest request, RecordedMotion motion)
        {
            if (motion.Summary == null) throw new ArgumentException("the motion is incomplete: it has no summary");
            string key = Key(request);
            var bytes = motion.ToBytes();
            Keep(key, bytes);
            return () => Write(key, bytes);
        }

        /// <summary>Finds what the same request gave before. A damaged file is a <see cref="WireFormatException"/> that
        /// names it.</summary>
        public bool TryGet(StreamMotionRequest request, out RecordedMotion motion)
        {
            string key = Key(request);
            motion = null;
            if (_byKey.TryGetValue(key, out var node))
            {
                _entries.Remove(node);
                _entries.AddFirst(node);
                motion = RecordedMotion.Parse(node.Value.Bytes);
                return true;
            }
            if (_folder == null || !File.Exists(PathOf(key))) return false;
            var bytes = File.ReadAllBytes(PathOf(key));
            try
            {
                motion = RecordedMotion.Parse(bytes);
            }
            catch (WireFormatException error)
            {
                throw new WireFormatException($"{PathOf(key)}: {error.Message}; delete it", error);
            }
            Keep(key, bytes);
            Touch(PathOf(key));
            return true;
        }

        // Nothing is trimmed where nothing can be written, so nobody misses the time.
        static void Touch(string path)
        {
            try
            {
                File.SetLastWriteTimeUtc(path, DateTime.UtcNow);
            }
            catch (Exception error) when (error is IOException || error is UnauthorizedAccessException)
            {
                // Another game's folder, or one that may only be read.
            }
        }

        void Write(string key, byte[] bytes)
        {
            if (_folder == null) return;
            lock (Writing)
            {
                Directory.CreateDirectory(_folder);
                // A game that is killed while it writes leaves no half motion behind.
                string path = PathOf(key), partial = path + ".part";
                File.WriteAllBytes(partial, bytes);
                File.Delete(path);
                File.Move(partial, path);
                TrimFolder();
            }
        }

        void Keep(string key, byte[] bytes)
        {
            if (_byKey.TryGetValue(key, out var old)) Forget(old);
            _byKey[key] = _entries.AddFirst(new Entry(key, bytes));
            NumBytes += bytes.Length;
            while (NumBytes > _maxBytes && _entries.Last != null) Forget(_entries.Last);
        }

        void Forget(LinkedListNode<Entry> node)
        {
            _entries.Remove(node);
            _byKey.Remove(node.Value.Key);
            NumBytes -= node.Value.Bytes.Length;
        }

        void TrimFolder()
        {
            var files = new DirectoryInfo(_folder).GetFiles("*" + Extension);
            Array.Sort(files, (a, b) => b.LastWriteTimeUtc.CompareTo(a.LastWriteTimeUtc));
            long sum = 0;
            foreach (var file in files)
                if ((sum += file.Length) > _maxBytes) file.Delete();
        }

        string PathOf(string key) => Path.Combine(_folder, key + Extension);

        // How fast frames are sent changes nothing about the motion.
        static string Key(StreamMotionRequest request)
        {
            var asked = StreamMotionRequest.Parse(request.ToBytes());
            asked.Pacing = null;
            using var hash = SHA256.Create();
            var key = new StringBuilder();
            foreach (byte part in hash.ComputeHash(asked.ToBytes())) key.Append(part.ToString("x2"));
            return key.ToString();
        }

        sealed class Entry
        {
            public Entry(string key, byte[] bytes) => (Key, Bytes) = (key, bytes);

            public string Key { get; }

            public byte[] Bytes { get; }
        }
    }
}
