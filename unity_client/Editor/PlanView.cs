using System;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>A plan as a list: text and seconds of each beat can be edited, beats moved, removed, added, and the motion
    /// made anew from one of them.</summary>
    sealed class PlanView : VisualElement
    {
        readonly BeatList _beats;
        readonly Action<int> _regenerate;
        readonly VisualElement _rows = new VisualElement();
        readonly Label _note = new Label();

        /// <summary>Shows and edits <paramref name="beats"/>.</summary>
        public PlanView(BeatList beats, Action<int> regenerate)
        {
            (_beats, _regenerate) = (beats, regenerate);
            Add(_rows);
            Add(_note);
            Add(new Button(() => Edit(() => _beats.Insert(_beats.Beats.Count, "stand", 1))) { text = "Add a beat" });
            Refresh();
        }

        /// <summary>Shows the list as it is now.</summary>
        public void Refresh()
        {
            _rows.Clear();
            for (int i = 0; i < _beats.Beats.Count; i++) _rows.Add(Row(i));
            _note.text = _beats.Beats.Count == 0
                ? "No plan yet. Press Plan to let the model write one, or add beats of your own."
                : $"{_beats.DurationS:0.0} s{(_beats.IsChanged ? $", changed from beat {_beats.FirstChanged + 1} on" : "")}";
        }

        VisualElement Row(int beat)
        {
            var row = new VisualElement();
            row.style.flexDirection = FlexDirection.Row;
            row.Add(new Label($"{beat + 1}."));
            var text = new TextField { value = _beats.Beats[beat].Text, isDelayed = true };
            text.style.flexGrow = 1;
            text.RegisterValueChangedCallback(change => Edit(() => _beats.SetText(beat, change.newValue)));
            row.Add(text);
            var seconds = new FloatField { value = _beats.Beats[beat].DurationS, isDelayed = true };
            seconds.RegisterValueChangedCallback(change => Edit(() => _beats.SetDuration(beat, change.newValue)));
            row.Add(seconds);
            row.Add(Button("up", "Move up", beat > 0, () => Edit(() => _beats.Move(beat, beat - 1))));
            row.Add(Button("down", "Move down", beat < _beats.Beats.Count - 1,
                () => Edit(() => _beats.Move(beat, beat + 1))));
            row.Add(Button("remove", "Remove this beat", true, () => Edit(() => _beats.RemoveAt(beat))));
            row.Add(Button("from here", "Keep what comes before and make the rest anew", true,
                () => _regenerate(beat)));
            return row;
        }

        void Edit(Action edit)
        {
            try
            {
                edit();
                Refresh();
            }
            catch (ArgumentException error)
            {
                Refresh();
                _note.text = error.Message;
            }
        }

        static Button Button(string text, string tooltip, bool enabled, Action clicked)
        {
            var button = new Button(clicked) { text = text, tooltip = tooltip };
            button.SetEnabled(enabled);
            return button;
        }
    }
}
