using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    public sealed partial class MotionWindow
    {
        TextField _prompt, _seed;
        SliderInt _numTakes;
        Toggle _loop, _inPlace, _generic;
        PlanView _plan;
        TakesView _takes;
        PreviewView _preview;
        QualityView _quality;
        Label _connection, _status;
        [NonSerialized] BeatList _planShown;
        [NonSerialized] IReadOnlyList<MotionTake> _takesShown;
        [NonSerialized] MotionTake _takeShown;

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
            _prompt = new TextField("What the character does") { multiline = true };
            _prompt.RegisterValueChangedCallback(change => _draft.Prompt = change.newValue);
            _prompt.RegisterCallback<FocusOutEvent>(_ => _draft.EndStep());
            root.Add(_prompt);
            root.Add(Row(Button("Plan", "Let the model write a plan", Plan),
                Button("Generate", "Make the motion (Ctrl+Enter)", Generate),
                new Button(Cancel) { text = "Cancel", tooltip = "End what is running (Escape)" }));
            _plan = new PlanView(_draft, beat => Guard(() => Regenerate(beat)));
            root.Add(_plan);
            _seed = new TextField("Seed") { isDelayed = true };
            _seed.RegisterValueChangedCallback(change => SetSeed(change.newValue));
            _numTakes = new SliderInt("Variations", 1, MotionDraft.MaxTakes) { showInputField = true };
            _numTakes.RegisterValueChangedCallback(change => _draft.NumTakes = change.newValue);
            root.Add(Row(_seed, _numTakes));
            _takes = new TakesView(take => _draft.Choose(take));
            root.Add(_takes);
            _preview = new PreviewView();
            _preview.Shown += _takes.ShowAt;
            root.Add(_preview);
            root.Add(Row(
                new Button(() => _preview.IsPlaying = !_preview.IsPlaying) { text = "Play / stop", tooltip = "Space" },
                Button("On the selected humanoid", "Pose it as well; it stands as before when the preview ends",
                    ShowOnSelection)));
            _quality = new QualityView();
            root.Add(_quality);
            root.Add(Row(_loop = Toggle("Loop", value => _draft.Loop = value),
                _inPlace = Toggle("In place", value => _draft.InPlace = value),
                _generic = Toggle("Generic, for the selected rig", value => _draft.Generic = value)));
            root.Add(Row(Button("Bake", "Write an AnimationClip with its passport", Bake),
                Button("Bake again", "Make the selected clip anew from the codes in its passport", BakeAgain),
                Button("Import BVH", "Load a BVH file that a bridge wrote", ImportBvh)));
            _status = new Label();
            root.Add(_status);
            root.RegisterCallback<KeyDownEvent>(OnKey);
            Refresh();
            Guard(Connect);
        }

        // What has not changed is not built again: somebody may be typing in it.
        void Refresh()
        {
            if (_status == null) return;  // before CreateGUI there is nothing to show it in
            _prompt.SetValueWithoutNotify(_draft.Prompt);
            _seed.SetValueWithoutNotify(_draft.Seed.ToString());
            _numTakes.SetValueWithoutNotify(_draft.NumTakes);
            _loop.SetValueWithoutNotify(_draft.Loop);
            _inPlace.SetValueWithoutNotify(_draft.InPlace);
            _generic.SetValueWithoutNotify(_draft.Generic);
            if (_planShown != _draft.Plan)
            {
                _planShown = _draft.Plan;
                _plan.Refresh();
            }
            if (_takesShown == _draft.Takes && _takeShown == _draft.Chosen) return;
            (_takesShown, _takeShown) = (_draft.Takes, _draft.Chosen);
            _takes.Show(_takesShown, _draft.ChosenIndex);
            ShowTake(_takeShown);
        }

        void OnUndo()
        {
            _coming?.Clear();
            _draft.Forget();
            (_planShown, _takesShown) = (null, null);
            Refresh();
        }

        void ShowComing(IReadOnlyList<MotionTake> takes)
        {
            _takes.Show(takes, -1);
            ShowTake(takes[takes.Count - 1]);
        }

        void ShowTake(MotionTake take)
        {
            _preview.Load(take?.Motion);
            _quality.Show(take?.Motion.Summary.Quality);
        }

        void SetSeed(string text)
        {
            if (ulong.TryParse(text, out ulong seed))
            {
                _draft.Seed = seed;
                return;
            }
            _seed.SetValueWithoutNotify(_draft.Seed.ToString());
            Say($"the seed is a whole number from 0 on, got '{text}'");
        }

        void OnKey(KeyDownEvent key)
        {
            if (key.keyCode == KeyCode.Return && (key.ctrlKey || key.commandKey)) Guard(Generate);
            else if (key.keyCode == KeyCode.Escape) Cancel();
            else if (key.keyCode == KeyCode.Space && !(key.target is TextElement))
                _preview.IsPlaying = !_preview.IsPlaying;
        }

        void Tick() => _preview?.Tick();

        void Say(string status) => _status.text = status;

        Button Button(string text, string tooltip, Func<Task> clicked) =>
            new Button(() => Guard(clicked)) { text = text, tooltip = tooltip };

        static Toggle Toggle(string label, Action<bool> changed)
        {
            var toggle = new Toggle(label);
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
    }
}
