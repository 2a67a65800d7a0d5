using System;
using MotionR1.Core;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>One complete motion of a draft, as Unity serializes it: so undo and a domain reload bring it back.</summary>
    [Serializable]
    public sealed class MotionTake
    {
        [SerializeField] string _prompt = "";
        [SerializeField] int _fromBeat;
        [SerializeField] byte[] _bytes = Array.Empty<byte>();

        [NonSerialized] RecordedMotion _motion;

        MotionTake()
        {
            // For Unity's serializer.
        }

        /// <summary>Keeps a motion.</summary>
        /// <param name="prompt">What was asked for.</param>
        /// <param name="motion">What came, complete.</param>
        /// <param name="fromBeat">The first beat that was made anew: what is before it is another take's.</param>
        public MotionTake(string prompt, RecordedMotion motion, int fromBeat = 0)
        {
            if (motion.Summary == null) throw new ArgumentException("the motion is incomplete: it has no summary");
            (_prompt, _fromBeat, _bytes, _motion) = (prompt, fromBeat, motion.ToBytes(), motion);
        }

        /// <summary>What was asked for.</summary>
        public string Prompt => _prompt;

        /// <summary>The first beat that was made anew, and that the quality report is about.</summary>
        public int FromBeat => _fromBeat;

        /// <summary>Plan, codes and frames.</summary>
        public RecordedMotion Motion => _motion ??= RecordedMotion.Parse(_bytes);

        /// <summary>Whether a bridge made it of codes, so that it can be gone on with and baked again.</summary>
        public bool HasCodes => Motion.Header.Model.Revision.Length > 0;

        /// <summary>Quality score, 0 to 1; 0 without a report.</summary>
        public float Score => Motion.Summary.Quality?.Score ?? 0;

        /// <summary>Reads the bytes again when the motion is asked for: undo has changed them.</summary>
        internal void Forget() => _motion = null;
    }
}
