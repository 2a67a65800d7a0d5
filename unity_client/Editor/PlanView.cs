using System;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>A plan as a list: text, body parts and seconds of each beat can be edited, beats moved, removed, added, and
    /// the motion made anew from one of them. Each edit is a step that can be undone.</summary>
    sealed class PlanView : VisualElement
    {
        const string WholeBody = "whole body";

        readonly MotionDraft _draft;
        readonly Action<int> _regenerate;
        readonly VisualElement _rows = new VisualElement();
        readonly Label _note = new Label();

        /// <summary>Shows and edits the plan of a draft.</summary>
        public PlanView(MotionDraft draft, Action<int> regenerate)
        {
            (_draft, _regenerate) = (draft, regenerate);
            Add(_rows);
            Add(_note);
            Add(Button("Add a beat", "At the end", true,
                () => Edit("Add beat", plan => plan.Insert(plan.Beats.Count, "stand", 1))));
            Refresh();
        }

        /// <summary>Shows the plan as it is now.</summary>
        public void Refresh()
        {
            var plan = _draft.Plan;
            _rows.Clear();
            for (int i = 0; i < plan.Beats.Count; i++) _rows.Add(Row(plan, i));
            _note.text = plan.Beats.Count == 0
                ? "No plan yet. Press Plan to let the model write one, or add beats of your own."
                : $"{plan.DurationS:0.0} s{(plan.IsChanged ? $", changed from beat {plan.FirstChanged + 1} on" : "")}";
        }

        VisualElement Row(BeatList plan, int index)
        {
            var beat = plan.Beats[index];
            var row = new VisualElement();
            row.style.flexDirection = FlexDirection.Row;
            row.Add(new Label($"{index + 1}."));
            var text = new TextField { value = beat.Text, isDelayed = true };
            text.style.flexGrow = 1;
            text.RegisterValueChangedCallback(change =>
                Edit($"Edit beat {index + 1}", edited => edited.SetText(index, change.newValue)));
            row.Add(text);
            row.Add(Button(beat.BodyParts.Count == 0 ? WholeBody : string.Join(", ", beat.BodyParts),
                "What of the body this beat is about", true, () => BodyPartsMenu(index).ShowAsContext()));
            var seconds = new FloatField { value = beat.DurationS, isDelayed = true };
            seconds.RegisterValueChangedCallback(change =>
                Edit($"Change length of beat {index + 1}", edited => edited.SetDuration(index, change.newValue)));
            row.Add(seconds);
            row.Add(Button("up", "Move up", index > 0,
                () => Edit($"Move beat {index + 1}", edited => edited.Move(index, index - 1))));
            row.Add(Button("down", "Move down", index < plan.Beats.Count - 1,
                () => Edit($"Move beat {index + 1}", edited => edited.Move(index, index + 1))));
            row.Add(Button("remove", "Remove this beat", true,
                () => Edit($"Remove beat {index + 1}", edited => edited.RemoveAt(index))));
            row.Add(Button("from here", "Keep what comes before and make the rest anew", true,
                () => _regenerate(index)));
            return row;
        }

        GenericMenu BodyPartsMenu(int index)
        {
            var meant = _draft.Plan.Beats[index].BodyParts;
            string label = $"Change body parts of beat {index + 1}";
            var menu = new GenericMenu();
            menu.AddItem(new GUIContent(WholeBody), meant.Count == 0,
                () => Edit(label, edited => edited.ClearBodyParts(index)));
            menu.AddSeparator("");
            foreach (string part in BeatList.BodyParts)
            {
                bool isMeant = false;
                foreach (string one in meant) isMeant |= one == part;
                menu.AddItem(new GUIContent(part), isMeant,
                    () => Edit(label, edited => edited.SetBodyPart(index, part, !isMeant)));
            }
            return menu;
        }

        void Edit(string label, Action<BeatList> edit)
        {
            try
            {
                _draft.EditPlan(label, edit);
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
