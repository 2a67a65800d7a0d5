using System;
using System.Collections.Generic;
using MotionR1.Core.V1;
using UnityEditor;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>What a designer works on: sentence, seed, plan, takes, which of them is chosen, and how it is baked. Every
    /// change is a step that can be undone, and a domain reload keeps it all.</summary>
    public sealed class MotionDraft : ScriptableObject
    {
        /// <summary>As many takes as can be looked at side by side.</summary>
        public const int MaxTakes = 4;

        [SerializeField] string _prompt = "a person walks forward and waves";
        [SerializeField] ulong _seed = 1;
        [SerializeField] int _numTakes = 1;
        [SerializeField] BeatList _plan = new BeatList();
        [SerializeField] string _planned = "";
        [SerializeField] List<MotionTake> _takes = new List<MotionTake>();
        [SerializeField] int _chosen;
        [SerializeField] bool _loop;
        [SerializeField] bool _inPlace;
        [SerializeField] bool _generic;

        [NonSerialized] string _typing;

        /// <summary>Told of every change that is made here; undo has an event of its own.</summary>
        public event Action Changed;

        /// <summary>What the character does. Changes that follow each other are one step, until <see cref="EndStep"/>.
        /// </summary>
        public string Prompt { get => _prompt; set => Set(ref _prompt, value, "Edit prompt", typing: true); }

        /// <summary>Seed of the first take; the others count on from it.</summary>
        public ulong Seed { get => _seed; set => Set(ref _seed, value, "Change seed"); }

        /// <summary>Takes to make at once.</summary>
        public int NumTakes
        {
            get => _numTakes;
            set => Set(ref _numTakes, Math.Max(1, Math.Min(MaxTakes, value)), "Change variations", typing: true);
        }

        /// <summary>A clip that is baked repeats.</summary>
        public bool Loop { get => _loop; set => Set(ref _loop, value, "Change loop"); }

        /// <summary>A clip that is baked stays where it is.</summary>
        public bool InPlace { get => _inPlace; set => Set(ref _inPlace, value, "Change in place"); }

        /// <summary>A clip is baked for the bones of one rig.</summary>
        public bool Generic { get => _generic; set => Set(ref _generic, value, "Change rig of the clip"); }

        /// <summary>How a clip is baked.</summary>
        public BakeOptions Options => new BakeOptions { Loop = _loop, InPlace = _inPlace };

        /// <summary>The plan. Change it by <see cref="EditPlan"/>, or the change cannot be undone.</summary>
        public BeatList Plan => _plan;

        /// <summary>What was made, to compare.</summary>
        public IReadOnlyList<MotionTake> Takes => _takes;

        /// <summary>Which of them is looked at and baked.</summary>
        public int ChosenIndex => _chosen;

        /// <summary>The same; null where there is none.</summary>
        public MotionTake Chosen => _chosen < _takes.Count ? _takes[_chosen] : null;

        /// <summary>The beats that go into a request. The plan of another sentence is not this one's, unless somebody has
        /// worked on it.</summary>
        public IEnumerable<Beat> BeatsToSend =>
            _planned == _prompt || _plan.IsChanged ? _plan.ToPlan().Beats : (IEnumerable<Beat>)Array.Empty<Beat>();

        /// <summary>An empty draft; destroy it when it is not needed any more.</summary>
        public static MotionDraft New()
        {
            var draft = CreateInstance<MotionDraft>();
            // Else loading a scene would take it away.
            draft.hideFlags = HideFlags.HideAndDontSave;
            return draft;
        }

        /// <summary>Changes the plan, on a copy: an edit that throws leaves everything as it was, undo too.</summary>
        public void EditPlan(string label, Action<BeatList> edit)
        {
            var edited = _plan.Copy();
            edit(edited);
            Step(label, () => _plan = edited);
        }

        /// <summary>Takes the plan that the model wrote for the sentence as it is now.</summary>
        public void TakePlan(Plan plan) => Step("Plan motion", () => Load(plan, _prompt));

        /// <summary>Puts takes in the place of those that are here, and chooses one.</summary>
        public void SetTakes(string label, IEnumerable<MotionTake> takes, int chosen) => Step(label, () =>
        {
            _takes = new List<MotionTake>(takes);
            ChooseNow(chosen);
        });

        /// <summary>Chooses a take; the plan is the one it was made from.</summary>
        public void Choose(int take) => Step($"Choose take {take + 1}", () => ChooseNow(take));

        /// <summary>Says that typing is over: the next change is another step.</summary>
        public void EndStep() => _typing = null;

        /// <summary>Call it after undo and redo: what was derived from the old state is forgotten.</summary>
        public void Forget()
        {
            EndStep();
            foreach (var take in _takes) take.Forget();
        }

        void ChooseNow(int take)
        {
            _chosen = take;
            if (Chosen?.Motion.Plan is { } plan) Load(plan, Chosen.Prompt);
        }

        void Load(Plan plan, string prompt)
        {
            _plan = new BeatList();
            _plan.Load(plan.Beats);
            _planned = prompt;
        }

        void Set<T>(ref T field, T value, string label, bool typing = false)
        {
            if (EqualityComparer<T>.Default.Equals(field, value)) return;
            Begin(label, typing);
            field = value;
            Changed?.Invoke();
        }

        void Step(string label, Action change)
        {
            Begin(label, typing: false);
            change();
            Changed?.Invoke();
        }

        void Begin(string label, bool typing)
        {
            if (!typing || _typing != label) Undo.RegisterCompleteObjectUndo(this, label);
            _typing = typing ? label : null;
        }
    }
}
