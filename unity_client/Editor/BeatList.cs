using System;
using System.Collections.Generic;
using MotionR1.Core;
using MotionR1.Core.V1;

namespace MotionR1.Editor
{
    /// <summary>A plan while it is edited: beats that can be changed, moved, added and removed, beside the plan that the
    /// motion was made from. Knows from which beat on the motion has to be made anew.</summary>
    public sealed class BeatList
    {
        /// <summary>The wire counts seconds in tenths; no beat is shorter than one.</summary>
        public const float ShortestS = 0.1f;

        static readonly char[] Forbidden = { '<', '>', '(', ')', '\n', '\r' };

        readonly List<Beat> _beats = new List<Beat>();
        readonly List<Beat> _made = new List<Beat>();

        /// <summary>The beats as they stand now. Change them by the methods here.</summary>
        public IReadOnlyList<Beat> Beats => _beats;

        /// <summary>How long it all takes, seconds.</summary>
        public float DurationS => StartS(_beats.Count);

        /// <summary>The first beat that differs from the plan that the motion was made from: codes before it can stay.
        /// The number of beats if none does.</summary>
        public int FirstChanged
        {
            get
            {
                int beat = 0;
                while (beat < _beats.Count && beat < _made.Count && Same(_beats[beat], _made[beat])) beat++;
                return beat;
            }
        }

        /// <summary>Whether the motion is not what the plan says.</summary>
        public bool IsChanged => FirstChanged < Math.Max(_beats.Count, _made.Count);

        /// <summary>Takes a plan that a motion was made from, or will be.</summary>
        public void Load(IEnumerable<Beat> beats)
        {
            _beats.Clear();
            _made.Clear();
            foreach (var beat in beats)
            {
                _beats.Add(Copy(beat));
                _made.Add(Copy(beat));
            }
        }

        /// <summary>When a beat begins, seconds.</summary>
        public float StartS(int beat)
        {
            float sumS = 0;
            for (int i = 0; i < beat; i++) sumS += _beats[i].DurationS;
            return sumS;
        }

        /// <summary>Says what a beat does. What the wire cannot carry is an <see cref="ArgumentException"/>.</summary>
        public void SetText(int beat, string text)
        {
            string trimmed = string.Join(" ", text.Split((char[])null, StringSplitOptions.RemoveEmptyEntries));
            if (trimmed.Length == 0) throw new ArgumentException($"beat {beat + 1}: expected what it does, got nothing");
            if (trimmed.IndexOfAny(Forbidden) >= 0)
                throw new ArgumentException($"beat {beat + 1}: < > ( ) cannot be in a beat, got '{trimmed}'");
            _beats[beat].Text = trimmed;
        }

        /// <summary>Says how long a beat takes, rounded to tenths of a second.</summary>
        public void SetDuration(int beat, float seconds)
        {
            if (!(seconds < float.PositiveInfinity))
                throw new ArgumentException($"beat {beat + 1}: expected seconds, got {seconds}");
            _beats[beat].DurationS = Math.Max(ShortestS, (float)Math.Round(seconds * 10) / 10);
        }

        /// <summary>Puts a beat before another one, or at the end.</summary>
        public void Insert(int at, string text, float seconds)
        {
            _beats.Insert(at, new Beat());
            try
            {
                SetText(at, text);
                SetDuration(at, seconds);
            }
            catch (ArgumentException)
            {
                _beats.RemoveAt(at);
                throw;
            }
        }

        /// <summary>Takes a beat out.</summary>
        public void RemoveAt(int beat) => _beats.RemoveAt(beat);

        /// <summary>Puts a beat in another place.</summary>
        public void Move(int from, int to)
        {
            var beat = _beats[from];
            _beats.RemoveAt(from);
            _beats.Insert(to, beat);
        }

        /// <summary>The first code that has to be made anew when everything from <paramref name="beat"/> on is: codes
        /// that reach into it go too.</summary>
        public int FirstCode(int beat, RecordedMotion motion)
        {
            var model = motion.Header.Model;
            double frame = StartS(beat) * model.FrameRateHz;
            return Math.Min((int)(frame / model.FramesPerCode + 1e-4), motion.Chunks.Count);
        }

        /// <summary>The beats from one on, as a request takes them. The first is longer by what of the kept codes is not
        /// there.</summary>
        public List<Beat> From(int beat, RecordedMotion motion)
        {
            var model = motion.Header.Model;
            var rest = new List<Beat>();
            for (int i = beat; i < _beats.Count; i++) rest.Add(Copy(_beats[i]));
            if (rest.Count == 0) return rest;
            float keptS = FirstCode(beat, motion) * model.FramesPerCode / model.FrameRateHz;
            float missingS = (float)Math.Round((StartS(beat) - keptS) * 10) / 10;
            rest[0].DurationS += Math.Max(0, missingS);
            return rest;
        }

        static bool Same(Beat a, Beat b) => a.ToBytes().AsSpan().SequenceEqual(b.ToBytes());

        static Beat Copy(Beat beat) => Beat.Parse(beat.ToBytes());
    }
}
