using System;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>Where a designer makes clips: a sentence, its plan to edit, takes to compare, a preview, and Bake. What it
    /// shows is a <see cref="MotionDraft"/>; here is what its buttons do. Ctrl+Enter generates, Escape cancels, Space
    /// plays and stops.</summary>
    public sealed partial class MotionWindow : EditorWindow
    {
        [SerializeField] MotionDraft _draft;
        [SerializeField] string _clipPath = "";

        OpenCalls _calls;
        Limits _limits;

        // While takes are made. A domain reload keeps private fields too, if it is not told otherwise.
        [NonSerialized] List<MotionTake> _coming;

        [MenuItem("Window/Animation/Motion-R1")]
        static void Open() => GetWindow<MotionWindow>("Motion-R1");

        void OnEnable()
        {
            if (_draft == null) _draft = MotionDraft.New();
            _draft.Changed += Refresh;
            Undo.undoRedoPerformed += OnUndo;  // before the calls, which end then: what was coming is dropped first
            _calls = new OpenCalls(() => BridgeSettings.instance.Open());
            EditorApplication.update += Tick;
        }

        void OnDisable()
        {
            EditorApplication.update -= Tick;
            Undo.undoRedoPerformed -= OnUndo;
            _draft.Changed -= Refresh;
            _preview?.Dispose();
            _calls?.Dispose();
        }

        void OnDestroy()
        {
            Undo.ClearUndo(_draft);
            DestroyImmediate(_draft);
        }

        async Task Connect()
        {
            _connection.text = $"{BridgeSettings.instance.Address}: asking ...";
            try
            {
                var response = await _calls.Model();
                _limits = response.Limits ?? new Limits();
                _connection.text = $"{BridgeSettings.instance.Address}: {response.Model.ModelId}, " +
                    $"{response.Model.Licence}, {response.Model.LanguageModelProvider}";
            }
            catch (RpcException error)
            {
                _connection.text = $"{error.Detail} Start one with: python -m bridge serve";
            }
            catch (OperationCanceledException)  // who cancels says so, and may have said more since
            {
                _connection.text = $"{BridgeSettings.instance.Address}: not asked";
            }
        }

        async Task Plan()
        {
            var response = await _calls.Plan(new PlanMotionRequest { Prompt = _draft.Prompt, Seed = _draft.Seed });
            _draft.TakePlan(response.Plan);
        }

        Task Generate()
        {
            var (prompt, beats) = (_draft.Prompt, new List<Beat>(_draft.BeatsToSend));
            return Make("Generate motion", Array.Empty<MotionTake>(), async seed =>
            {
                var request = new StreamMotionRequest { Prompt = prompt, Seed = seed };
                request.Beats.AddRange(beats);
                return new MotionTake(prompt, await _calls.Make(request));
            });
        }

        async Task Regenerate(int beat)
        {
            var (before, plan, prompt) = (_draft.Chosen, _draft.Plan, _draft.Prompt);
            if (before == null || !before.HasCodes)
            {
                await Generate();
                return;
            }
            int firstChanged = plan.FirstDifference(before.Motion.Plan?.Beats);
            if (firstChanged < beat)
                throw new InvalidOperationException(
                    $"beat {firstChanged + 1} is not what the motion was made from: make it anew from there");
            _limits ??= (await _calls.Model()).Limits ?? new Limits();
            await Make($"Make anew from beat {beat + 1}", new[] { before }, async seed =>
            {
                var request = new StreamMotionRequest { Prompt = prompt, Seed = seed };
                request.Beats.AddRange(plan.From(beat, before.Motion));
                int fromCode = plan.FirstCode(beat, before.Motion);
                var motion = await _calls.Remake(before.Motion, fromCode, request, _limits);
                motion.Add(new MotionEvent { Plan = plan.ToPlan() });
                return new MotionTake(prompt, motion, beat);
            });
        }

        // Takes are looked at as they come, and are one step of undo together: also those that came before somebody
        // cancelled the rest. Of the new ones the best is chosen.
        async Task Make(string label, IReadOnlyList<MotionTake> compared, Func<ulong, Task<MotionTake>> make)
        {
            if (_coming != null) throw new InvalidOperationException("takes are being made: Escape cancels them");
            int numTakes = Math.Min(_draft.NumTakes, MotionDraft.MaxTakes - compared.Count);
            ulong seed = _draft.Seed;
            _coming = new List<MotionTake>(compared);
            try
            {
                for (int i = 0; i < numTakes; i++)
                {
                    Say($"take {i + 1} of {numTakes} ...");
                    _coming.Add(await make(unchecked(seed + (ulong)i)));
                    ShowComing(_coming);
                }
                Say("");
            }
            finally
            {
                var takes = _coming;
                _coming = null;
                // Neither of a window that was closed, nor after an undo of what they were made from.
                if (_draft != null && takes.Count > compared.Count)
                    _draft.SetTakes(label, takes, Best(takes, compared.Count));
            }
        }

        Task Bake()
        {
            var take = _draft.Chosen ??
                throw new InvalidOperationException("there is nothing to bake yet: generate first");
            string path = EditorUtility.SaveFilePanelInProject("Bake", "motion", "anim", "Where the clip goes");
            if (path.Length > 0) Save(path, take, _draft.Options);
            return Task.CompletedTask;
        }

        async Task BakeAgain()
        {
            var clip = Selection.activeObject as AnimationClip;
            string path = clip != null ? AssetDatabase.GetAssetPath(clip) : _clipPath;
            var passport = ClipAsset.PassportOf(path);
            if (passport == null)
                throw new InvalidOperationException("select a clip that was baked here: its passport holds the codes");
            var model = (await _calls.Model()).Model;
            if (model.Revision != passport.Revision)
                throw new InvalidOperationException(
                    $"the clip was made by {passport.ModelId} ({passport.Revision}), the bridge runs {model.ModelId} " +
                    $"({model.Revision}): its codes mean something else there");
            var motion = await _calls.Decode(passport.ToDecodeRequest());
            motion.Add(new MotionEvent { Plan = passport.ToPlan() });
            motion.Summary.Seed = passport.Seed;
            var take = new MotionTake(passport.Prompt, motion);
            _draft.SetTakes("Bake again", new[] { take }, 0);
            Save(path, take, passport.Options);
        }

        Task ImportBvh()
        {
            string path = EditorUtility.OpenFilePanel("Import BVH", "", "bvh");
            if (path.Length > 0)
                _draft.SetTakes("Import BVH", new[] { new MotionTake("", BvhReader.Read(File.ReadAllText(path))) }, 0);
            return Task.CompletedTask;
        }

        Task ShowOnSelection()
        {
            _preview.Bind(SelectedHumanoid("select a humanoid in the scene first"));
            return Task.CompletedTask;
        }

        void Save(string path, MotionTake take, BakeOptions options)
        {
            var clip = !_draft.Generic ? ClipBaker.Humanoid(take.Motion, options) :
                ClipBaker.Generic(take.Motion, SelectedHumanoid("a generic clip needs its rig: select it"), options);
            // What came from a BVH file has no codes, and so no passport.
            var passport = take.HasCodes ? MotionPassport.For(take.Motion, take.Prompt, options) : null;
            ClipAsset.Save(path, clip, passport);
            _clipPath = path;
            Say($"baked {path}");
        }

        void Cancel()
        {
            _calls.Cancel();
            Say("cancelled");
        }

        // Everything that a click starts ends here: as words in the window.
        async void Guard(Func<Task> run)
        {
            try
            {
                await run();
            }
            catch (OperationCanceledException)
            {
                Say("cancelled");
            }
            catch (Exception error) when (error is RpcException || error is InvalidOperationException ||
                error is ArgumentException || error is FormatException || error is IOException ||
                error is UnauthorizedAccessException || error is WireFormatException)
            {
                Say(error.Message);
            }
        }

        static int Best(IReadOnlyList<MotionTake> takes, int from)
        {
            int best = from;
            for (int i = from; i < takes.Count; i++)
                if (takes[i].Score > takes[best].Score) best = i;
            return best;
        }

        static Animator SelectedHumanoid(string otherwise)
        {
            var selected = Selection.activeGameObject;
            var humanoid = selected == null ? null : selected.GetComponentInChildren<Animator>();
            return humanoid != null ? humanoid : throw new InvalidOperationException(otherwise);
        }
    }
}
