using System;
using System.Collections.Generic;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>Says of a clip where it comes from, and holds all that is needed to make it again: it lies in the clip's
    /// own asset. The codes decode to the same frames on the same model.</summary>
    public sealed class MotionPassport : ScriptableObject
    {
        [SerializeField] string _prompt = "";
        [SerializeField] string _plan = "";
        [SerializeField] string _seed = "";
        [SerializeField] string _modelId = "";
        [SerializeField] string _revision = "";
        [SerializeField] string _licence = "";
        [SerializeField] string _dataNotice = "";
        [SerializeField] float _score;
        [SerializeField] string _verdict = "";
        [SerializeField] bool _loop;
        [SerializeField] bool _inPlace;
        [SerializeField] List<string> _codes = new List<string>();  // a code has up to 63 bits
        [SerializeField] List<SerializedBeat> _beats = new List<SerializedBeat>();

        /// <summary>What was asked for.</summary>
        public string Prompt => _prompt;

        /// <summary>The seed of the motion.</summary>
        public ulong Seed => _seed.Length == 0 ? 0 : ulong.Parse(_seed);

        /// <summary>Name of the model.</summary>
        public string ModelId => _modelId;

        /// <summary>SHA-256 of the model's manifest: the same one gives the same frames.</summary>
        public string Revision => _revision;

        /// <summary>Licence of the model's weights.</summary>
        public string Licence => _licence;

        /// <summary>Attribution of the data that the model learned from.</summary>
        public string DataNotice => _dataNotice;

        /// <summary>Quality score, 0 to 1.</summary>
        public float Score => _score;

        /// <summary>How the clip was baked.</summary>
        public BakeOptions Options => new BakeOptions { Loop = _loop, InPlace = _inPlace };

        /// <summary>Writes the passport of a complete motion.</summary>
        public static MotionPassport For(RecordedMotion motion, string prompt, BakeOptions options)
        {
            var (model, summary) = (motion.Header.Model, motion.Summary);
            if (summary == null) throw new ArgumentException("the motion is incomplete: it has no summary");
            var passport = CreateInstance<MotionPassport>();
            passport.name = "Motion passport";
            (passport._prompt, passport._plan) = (prompt, motion.Plan?.Text ?? "");
            passport._seed = (summary.Seed != 0 ? summary.Seed : motion.Header.Seed).ToString();
            (passport._modelId, passport._revision) = (model.ModelId, model.Revision);
            (passport._licence, passport._dataNotice) = (model.Licence, model.DataNotice);
            (passport._loop, passport._inPlace) = (options.Loop, options.InPlace);
            if (summary.Quality != null)
                (passport._score, passport._verdict) = (summary.Quality.Score, summary.Quality.Verdict.ToString());
            foreach (long code in motion.Codes()) passport._codes.Add(code.ToString());
            if (motion.Plan != null)
                foreach (var beat in motion.Plan.Beats) passport._beats.Add(new SerializedBeat(beat));
            return passport;
        }

        /// <summary>Asks for the same motion again, as codes.</summary>
        public DecodeMotionRequest ToDecodeRequest()
        {
            var request = new DecodeMotionRequest();
            foreach (string code in _codes) request.Codes.Add(long.Parse(code));
            return request;
        }

        /// <summary>The plan, with its beats to edit.</summary>
        public Plan ToPlan()
        {
            var plan = new Plan { Text = _plan };
            foreach (var beat in _beats) plan.Beats.Add(beat.ToBeat());
            return plan;
        }
    }
}
