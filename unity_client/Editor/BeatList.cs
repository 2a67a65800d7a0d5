using System;
using System.Collections.Generic;
using System.Text.RegularExpressions;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>A plan while it is edited: beats that can be changed, moved, added and removed, beside the plan that the
    /// motion was made from. Knows from which beat on the motion has to be made anew.</summary>
    [Serializable]
    public sealed class BeatList
    {
        /// <summary>The wire counts seconds in tenths; no beat is shorter than one.</summary>
        public const float ShortestS = 0.1f;

        /// <summary>What a beat can be about, as the wire names it.</summary>
        public static readonly IReadOnlyList<string> BodyParts = new[]
        {
            "head", "torso", "left arm", "right arm", "both arms", "left hand", "right hand", "left leg", "right leg",
            "both legs", "left foot", "right foot",
        };

        // Whatever would read as the end of a beat, or of the plan.
        static readonly Regex Forbidden = new Regex(@"[<>()]|\d+\. |, \d+\.\d s");

        [SerializeField] List<SerializedBeat> _beats = new List<SerializedBeat>();
        [SerializeField] List<SerializedBeat> _made = new List<SerializedBeat>();

        /// <summary>The beats as they stand now. Change them by the methods here.</summary>
        public IReadOnlyList<SerializedBeat> Beats => _beats;

        /// <summary>How long it all takes, seconds.</summary>
        public float DurationS => StartS(_beats.Count);

        /// <summary>The first beat that differs from the plan that the motion was made from: codes before it can stay.
        /// The number of beats if none does.</summary>
        public int FirstChanged => FirstDifference(_made.Count, beat => _made[beat]);

        /// <summary>Whether the motion is not what the plan says.</summary>
        public bool IsChanged => FirstChanged < Math.Max(_beats.Count, _made.Count);

        /// <summary>The first beat that differs from those; the number of beats if none does. Null is none at all.</summary>
        public int FirstDifference(IReadOnlyList<Beat> from) =>
            FirstDifference(from?.Count ?? 0, beat => new SerializedBeat(from[beat]));

        /// <summary>A list of its own with the same beats.</summary>
        public BeatList Copy()
        {
            var copy = new BeatList();
            // Beats themselves never change: an edit puts another one in their place.
            copy._beats.AddRange(_beats);
            copy._made.AddRange(_made);
            return copy;
        }

        /// <summary>Takes a plan that a motion was made from, or will be.</summary>
        public void Load(IEnumerable<Beat> beats)
        {
            _beats.Clear();
            foreach (var beat in beats) _beats.Add(new SerializedBeat(beat));
            _made.Clear();
            _made.AddRange(_beats);
        }

        /// <summary>When a beat begins, seconds.</summary>
        public float StartS(int beat)
        {
            float sumS = 0;
            for (int i = 0; i < beat; i++) sumS += _beats[i].DurationS;
            return sumS;
        }

        /// <summary>Says what a beat does. What the wire cannot carry is an <see cref="ArgumentException"/>.</summary>
        public void SetText(int beat, string text) => Edit(beat, edited => edited.Text = Words(beat, text));

        /// <summary>Says how long a beat takes, rounded to tenths of a second.</summary>
        public void SetDuration(int beat, float seconds) =>
            Edit(beat, edited => edited.DurationS = Tenths(beat, seconds));

        /// <summary>Says that a beat is about a part of the body, or that it is not. About none it is about all of it.
        /// </summary>
        public void SetBodyPart(int beat, string part, bool isMeant)
        {
            if (!IsBodyPart(part))
                throw new ArgumentException(
                    $"beat {beat + 1}: expected one of {string.Join(", ", BodyParts)}, got '{part}'");
            Edit(beat, edited =>
            {
                edited.BodyParts.Remove(part);
                if (isMeant) edited.BodyParts.Add(part);
            });
        }

        /// <summary>Makes a beat about the whole body.</summary>
        public void ClearBodyParts(int beat) => Edit(beat, edited => edited.BodyParts.Clear());

        /// <summary>Puts a beat before another one, or at the end.</summary>
        public void Insert(int at, string text, float seconds) => _beats.Insert(at,
            new SerializedBeat(new Beat { Text = Words(at, text), DurationS = Tenths(at, seconds) }));

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
            for (int i = beat; i < _beats.Count; i++) rest.Add(_beats[i].ToBeat());
            if (rest.Count == 0) return rest;
            float keptS = FirstCode(beat, motion) * model.FramesPerCode / model.FrameRateHz;
            float missingS = (float)Math.Round((StartS(beat) - keptS) * 10) / 10;
            rest[0].DurationS += Math.Max(0, missingS);
            return rest;
        }

        /// <summary>All of it as the wire has it, with its text as a model would write it.</summary>
        public Plan ToPlan()
        {
            var plan = new Plan();
            var words = new List<string>();
            foreach (var beat in _beats)
            {
                plan.Beats.Add(beat.ToBeat());
                words.Add($"{words.Count + 1}. {beat}");
            }
            plan.Text = string.Join(" ", words);
            return plan;
        }

        void Edit(int beat, Action<Beat> edit)
        {
            var edited = _beats[beat].ToBeat();
            edit(edited);
            _beats[beat] = new SerializedBeat(edited);
        }

        static string Words(int beat, string text)
        {
            string words = string.Join(" ", text.Split((char[])null, StringSplitOptions.RemoveEmptyEntries));
            if (words.Length == 0) throw new ArgumentException($"beat {beat + 1}: expected what it does, got nothing");
            var forbidden = Forbidden.Match(words);
            if (forbidden.Success)
                throw new ArgumentException($"beat {beat + 1}: '{forbidden.Value}' cannot be in a beat, got '{words}'");
            return words;
        }

        static float Tenths(int beat, float seconds)
        {
            if (!(seconds < float.PositiveInfinity))
                throw new ArgumentException($"beat {beat + 1}: expected seconds, got {seconds}");
            return Math.Max(ShortestS, (float)Math.Round(seconds * 10) / 10);
        }

        static bool IsBodyPart(string part)
        {
            foreach (string known in BodyParts)
                if (known == part) return true;
            return false;
        }

        int FirstDifference(int num, Func<int, SerializedBeat> other)
        {
            int beat = 0;
            while (beat < _beats.Count && beat < num && _beats[beat].ToString() == other(beat).ToString()) beat++;
            return beat;
        }
    }
}
