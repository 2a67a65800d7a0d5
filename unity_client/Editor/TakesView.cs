using System;
using System.Collections.Generic;
using MotionR1.Core;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>Takes side by side: each moves on a figure of its own, with its seed and its verdict, and one is chosen. A
    /// single take needs no comparing: it is in the preview.</summary>
    sealed class TakesView : VisualElement
    {
        static readonly Color ChosenShade = new Color(0.24f, 0.37f, 0.58f);

        readonly Action<int> _choose;
        readonly List<(RecordedMotion motion, StickFigure figure, MotionFrame frame)> _figures =
            new List<(RecordedMotion, StickFigure, MotionFrame)>();

        /// <summary>Shows nothing yet.</summary>
        /// <param name="choose">Told which take is chosen.</param>
        public TakesView(Action<int> choose)
        {
            _choose = choose;
            style.flexDirection = FlexDirection.Row;
        }

        /// <summary>Shows these takes; -1 while there is nothing to choose yet.</summary>
        public void Show(IReadOnlyList<MotionTake> takes, int chosen)
        {
            Clear();
            _figures.Clear();
            if (takes.Count < 2) return;
            for (int i = 0; i < takes.Count; i++) Add(Card(i, takes[i], i == chosen, chosen >= 0 && i != chosen));
            ShowAt(0);
        }

        /// <summary>Shows all at one time; who is over stands in its last pose.</summary>
        public void ShowAt(float seconds)
        {
            foreach (var (motion, figure, frame) in _figures)
            {
                motion.ReadFrame(motion.FrameAt(seconds), frame);
                figure.Show(motion.Header.Model.Skeleton, frame);
            }
        }

        VisualElement Card(int index, MotionTake take, bool chosen, bool canChoose)
        {
            var card = new VisualElement();
            card.style.flexGrow = 1;
            if (chosen) card.style.backgroundColor = ChosenShade;
            var motion = take.Motion;
            string from = take.FromBeat > 0 ? $", from beat {take.FromBeat + 1}" : "";
            card.Add(new Label($"Take {index + 1}: seed {motion.Summary.Seed}{from}, {motion.Summary.DurationS:0.0} s"));
            var figure = new StickFigure { style = { minHeight = 120 } };
            card.Add(figure);
            card.Add(QualityView.Verdict(motion.Summary.Quality));
            card.Add(QualityView.Weakest(motion.Summary.Quality));
            var choose = new Button(() => _choose(index))
            {
                text = chosen ? "Chosen" : "Choose",
                tooltip = "Look at it below, edit its plan, and bake it",
            };
            choose.SetEnabled(canChoose);
            card.Add(choose);
            _figures.Add((motion, figure, new MotionFrame(motion.Header.Model.Skeleton.Parents.Count)));
            return card;
        }
    }
}
