using System;
using System.Collections.Generic;
using System.Globalization;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>A beat as Unity serializes it: in the draft that a window edits, and in a clip's passport.</summary>
    [Serializable]
    public sealed class SerializedBeat
    {
        [SerializeField] string _text = "";
        [SerializeField] float _durationS;
        [SerializeField] List<string> _bodyParts = new List<string>();

        SerializedBeat()
        {
            // For Unity's serializer.
        }

        /// <summary>Copies a beat.</summary>
        public SerializedBeat(Beat beat)
        {
            (_text, _durationS) = (beat.Text, beat.DurationS);
            _bodyParts.AddRange(beat.BodyParts);
        }

        /// <summary>What is done.</summary>
        public string Text => _text;

        /// <summary>How long it takes, seconds.</summary>
        public float DurationS => _durationS;

        /// <summary>Parts of the body that it is about; none means all of it.</summary>
        public IReadOnlyList<string> BodyParts => _bodyParts;

        /// <summary>And back, as a copy.</summary>
        public Beat ToBeat()
        {
            var beat = new Beat { Text = _text, DurationS = _durationS };
            beat.BodyParts.AddRange(_bodyParts);
            return beat;
        }

        /// <summary>The beat as a model would write it: <c>wave (right arm), 1.6 s</c>.</summary>
        public override string ToString()
        {
            string parts = _bodyParts.Count == 0 ? "" : $" ({string.Join(", ", _bodyParts)})";
            return $"{_text}{parts}, {_durationS.ToString("0.0", CultureInfo.InvariantCulture)} s";
        }
    }
}
