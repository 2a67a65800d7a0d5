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
    /// <summary>Where a designer makes clips: a sentence, its plan to edit, takes to compare, a preview, and Bake.
    /// Ctrl+Enter generates, Escape cancels, Space plays and stops.</summary>
    public sealed class MotionWindow : EditorWindow
    {
        const int MaxTakes = 4;

        [SerializeField] string _prompt = "a person walks forward and waves";
        [SerializeField] string _seedText = "1";
        [SerializeField] int _numTakes = 1;
        [SerializeField] BakeChoices _bake = new BakeChoices();
        [SerializeField] string _clipPath = "";

        readonly BeatList _beats = new BeatList();
        readonly List<RecordedMotion> _takes = new List<RecordedMotion>();
        OpenCalls _calls;
        Limits _limits;
        RecordedMotion _shown;
        string _planned = "";
        PlanView _plan;
        PreviewView _preview;
        QualityView _quality;
        VisualElement _takeButtons;
        Label _connection, _status;

        [MenuItem("Window/Animation/Motion-R1")]
        static void Open() => GetWindow<MotionWindow>("Motion-R1");

        void OnEnable()
        {
            _calls = new OpenCalls(() => BridgeSettings.instance.Open());
            EditorApplication.update += Tick;
        }

        void OnDisable()
        {
            EditorApplication.update -= Tick;
            _preview?.Dispose();
            _calls?.Dispose();
        }

        void CreateGUI()
        {
            var root = rootVisualElement;
            _connection = new Label("Not connected yet.");
            root.Add(Row(_connection, Button("Connect", "Ask the bridge which model it runs", Connect),
                Button("Settings", "Address, token, TLS", () =>
                {
                    SettingsService.OpenProjectSettings("Project/Motion-R1");
                    return Task.CompletedTask;
                })));
            var prompt = new TextField("What the character does") { value = _prompt, multiline = true };
            prompt.RegisterValueChangedCallback(change => _prompt = change.newValue);
            root.Add(prompt);
            root.Add(Row(Button("Plan", "Let the model write a plan", Plan),
                Button("Generate", "Make the motion (Ctrl+Enter)", () => Generate()),
                new Button(Cancel) { text = "Cancel", tooltip = "End what is running (Escape)" }));
            _plan = new PlanView(_beats, beat => Guard(() => Regenerate(beat)));
            root.Add(_plan);
            var seed = new TextField("Seed") { value = _seedText };
            seed.RegisterValueChangedCallback(change => _seedText = change.newValue);
            var takes = new SliderInt("Variations", 1, MaxTakes) { value = _numTakes, showInputField = true };
            takes.RegisterValueChangedCallback(change => _numTakes = change.newValue);
            root.Add(Row(seed, takes));
            _takeButtons = Row();
            root.Add(_takeButtons);
            _preview = new PreviewView();
            root.Add(_preview);
            root.Add(Row(
                new Button(() => _preview.IsPlaying = !_preview.IsPlaying) { text = "Play / stop", tooltip = "Space" },
                Button("On the selected humanoid", "Pose it as well; it stands as before when the preview ends",
                    ShowOnSelection)));
            _quality = new QualityView();
            root.Add(_quality);
            root.Add(Row(Toggle("Loop", _bake.Loop, value => _bake.Loop = value),
                Toggle("In place", _bake.InPlace, value => _bake.InPlace = value),
                Toggle("Generic, for the selected rig", _bake.Generic, value => _bake.Generic = value)));
            root.Add(Row(Button("Bake", "Write an AnimationClip with its passport", Bake),
                Button("Bake again", "Make the selected clip anew from the codes in its passport", BakeAgain),
                Button("Import BVH", "Load a BVH file that a bridge wrote", ImportBvh)));
            _status = new Label();
            root.Add(_status);
            root.RegisterCallback<KeyDownEvent>(OnKey);
            Guard(Connect);
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
        }

        async Task Plan()
        {
            var response = await _calls.Plan(new PlanMotionRequest { Prompt = _prompt, Seed = Seed() });
            _beats.Load(response.Plan.Beats);
            _planned = _prompt;
            _plan.Refresh();
        }

        async Task Generate()
        {
            _takes.Clear();
            // The plan of another sentence is not this one's, unless somebody has worked on it.
            if (_planned != _prompt && !_beats.IsChanged) _beats.Load(Array.Empty<Beat>());
            var beats = new List<Beat>(_beats.Beats);
            for (int take = 0; take < _numTakes; take++)
            {
                var request = new StreamMotionRequest { Prompt = _prompt, Seed = Seed() + (ulong)take };
                request.Beats.AddRange(beats);
                Say($"take {take + 1} of {_numTakes} ...");
                var motion = await _calls.Make(request);
                _takes.Add(motion);
                if (take == 0) Show(motion);
                ShowTakes();
            }
            Say("");
        }

        async Task Regenerate(int beat)
        {
            if (_shown == null || _shown.Header.Model.ModelId.Length == 0)
            {
                await Generate();
                return;
            }
            var request = new StreamMotionRequest { Prompt = _prompt, Seed = Seed() };
            request.Beats.AddRange(_beats.From(beat, _shown));
            _limits ??= (await _calls.Model()).Limits ?? new Limits();
            int fromCode = _beats.FirstCode(beat, _shown);
            var motion = await _calls.Remake(_shown, fromCode, request, Math.Max(1, _limits.MaxHistoryCodes));
            var whole = _beats.Beats;
            motion.Add(new MotionEvent { Plan = PlanOf(whole) });
            _takes.Add(motion);
            Show(motion);
            ShowTakes();
        }

        Task Bake()
        {
            if (_shown == null) throw new InvalidOperationException("there is nothing to bake yet: generate first");
            string path = EditorUtility.SaveFilePanelInProject("Bake", "motion", "anim", "Where the clip goes");
            if (path.Length == 0) return Task.CompletedTask;
            Save(path, _shown, _prompt, _bake.Options);
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
            var plan = PlanOf(passport.Beats());
            plan.Text = passport.Plan;
            motion.Add(new MotionEvent { Plan = plan });
            motion.Summary.Seed = passport.Seed;
            (_prompt, _shown) = (passport.Prompt, motion);
            Save(path, motion, passport.Prompt, passport.Options);
        }

        Task ImportBvh()
        {
            string path = EditorUtility.OpenFilePanel("Import BVH", "", "bvh");
            if (path.Length > 0) Show(BvhReader.Read(File.ReadAllText(path)));
            return Task.CompletedTask;
        }

        Task ShowOnSelection()
        {
            var humanoid = Selection.activeGameObject == null
                ? null : Selection.activeGameObject.GetComponentInChildren<Animator>();
            if (humanoid == null) throw new InvalidOperationException("select a humanoid in the scene first");
            _preview.Bind(humanoid);
            return Task.CompletedTask;
        }

        void Save(string path, RecordedMotion motion, string prompt, BakeOptions options)
        {
            Animator rig = null;
            if (_bake.Generic)
            {
                rig = Selection.activeGameObject == null
                    ? null : Selection.activeGameObject.GetComponentInChildren<Animator>();
                if (rig == null) throw new InvalidOperationException("a generic clip needs its rig: select it");
            }
            var clip = ClipAsset.Bake(motion, rig, _bake.Generic, options);
            // What came from a BVH file has no codes, and so no passport.
            var passport = motion.Summary != null ? MotionPassport.For(motion, prompt, options) : null;
            ClipAsset.Save(path, clip, passport);
            _clipPath = path;
            Say($"baked {path}");
        }

        void Show(RecordedMotion motion)
        {
            (_shown, _planned) = (motion, _prompt);
            if (motion.Plan != null)
            {
                _beats.Load(motion.Plan.Beats);
                _plan.Refresh();
            }
            _preview.Load(motion);
            _quality.Show(motion.Summary?.Quality);
        }

        void ShowTakes()
        {
            _takeButtons.Clear();
            for (int i = 0; i < _takes.Count; i++)
            {
                var take = _takes[i];
                var quality = take.Summary?.Quality;
                var button = new Button(() => Show(take)) { text = $"Take {i + 1}: {quality?.Score ?? 0:0.00}" };
                if (quality != null) button.style.color = QualityView.ColorOf(quality.Verdict);
                _takeButtons.Add(button);
            }
        }

        void OnKey(KeyDownEvent key)
        {
            if (key.keyCode == KeyCode.Return && (key.ctrlKey || key.commandKey)) Guard(() => Generate());
            else if (key.keyCode == KeyCode.Escape) Cancel();
            else if (key.keyCode == KeyCode.Space && !(key.target is TextElement))
                _preview.IsPlaying = !_preview.IsPlaying;
        }

        void Cancel()
        {
            _calls.Cancel();
            Say("cancelled");
        }

        void Tick() => _preview?.Tick();

        void Say(string status) => _status.text = status;

        ulong Seed() => ulong.TryParse(_seedText, out ulong seed) ? seed
            : throw new InvalidOperationException($"the seed is a whole number from 0 on, got '{_seedText}'");

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
                error is ArgumentException || error is FormatException || error is IOException)
            {
                Say(error.Message);
            }
        }

        static Plan PlanOf(IEnumerable<Beat> beats)
        {
            var plan = new Plan();
            plan.Beats.AddRange(beats);
            return plan;
        }

        Button Button(string text, string tooltip, Func<Task> clicked) =>
            new Button(() => Guard(clicked)) { text = text, tooltip = tooltip };

        static Toggle Toggle(string label, bool value, Action<bool> changed)
        {
            var toggle = new Toggle(label) { value = value };
            toggle.RegisterValueChangedCallback(change => changed(change.newValue));
            return toggle;
        }

        static VisualElement Row(params VisualElement[] parts)
        {
            var row = new VisualElement();
            row.style.flexDirection = FlexDirection.Row;
            foreach (var part in parts) row.Add(part);
            return row;
        }

        [Serializable]
        sealed class BakeChoices
        {
            public bool Loop, InPlace, Generic;

            public BakeOptions Options => new BakeOptions { Loop = Loop, InPlace = InPlace };
        }
    }
}
