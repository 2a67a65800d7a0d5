using MotionR1.Core.V1;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>The server's own measures of a motion, coloured by its verdict.</summary>
    sealed class QualityView : VisualElement
    {
        static readonly Color Good = new Color(0.35f, 0.8f, 0.4f);
        static readonly Color Fair = new Color(0.9f, 0.75f, 0.25f);
        static readonly Color Poor = new Color(0.9f, 0.35f, 0.3f);

        /// <summary>Shows a report; null empties it.</summary>
        public void Show(QualityReport report)
        {
            Clear();
            if (report == null)
            {
                Add(new Label("No quality report: the motion did not come from a bridge."));
                return;
            }
            Add(Verdict(report));
            Add(Weakest(report));
            Add(new Label($"feet slide {report.FootSkateMS * 100:0.0} cm/s, {report.FootSkateRatio:0 %} of steps; " +
                $"in contact {report.ContactFootSpeedMS * 100:0.0} cm/s"));
            Add(new Label($"below the floor {report.PenetrationM * 100:0.0} cm, above it {report.FloatM * 100:0.0} cm"));
            Add(new Label($"loop gap {report.LoopGapM * 100:0.0} cm, root {report.RootSpeedMS:0.00} m/s, " +
                $"fastest joint {report.JointSpeedMS:0.0} m/s"));
        }

        /// <summary>What to look at first.</summary>
        public static Label Weakest(QualityReport report) => new Label($"weakest: {report?.WeakestMeasure}");

        /// <summary>The verdict in a line, green, yellow or red.</summary>
        public static Label Verdict(QualityReport report)
        {
            if (report == null) return new Label("not measured");
            var line = new Label($"{report.Verdict}, score {report.Score:0.00}");
            line.style.color = report.Verdict switch
            {
                Core.V1.Verdict.Good => Good,
                Core.V1.Verdict.Fair => Fair,
                Core.V1.Verdict.Poor => Poor,
                _ => Color.gray,
            };
            return line;
        }
    }
}
