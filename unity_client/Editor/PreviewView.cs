using MotionR1.Core;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>Plays a motion on the built-in figure and, if there is one, on the selected humanoid, which stands as
    /// before when the preview ends. Below, a timeline to scrub, with marks where feet are on the ground.</summary>
    sealed class PreviewView : VisualElement, System.IDisposable
    {
        const float MarkHeight = 4;
        static readonly Color Mark = new Color(0.35f, 0.85f, 0.45f);
        static readonly FootContacts[] Feet =
        {
            FootContacts.LeftAnkle | FootContacts.LeftFoot, FootContacts.RightAnkle | FootContacts.RightFoot,
        };

        readonly StickFigure _figure = new StickFigure();
        readonly Slider _time = new Slider { lowValue = 0 };
        readonly VisualElement _marks = new VisualElement { tooltip = "Feet on the ground: left above, right below" };
        readonly Label _empty = new Label("Nothing to show yet: write what the character does and press Generate.");
        RecordedMotion _motion;
        MotionFrame _frame;
        HumanoidRetargeter _retargeter;
        PoseSnapshot _before;
        double _lastS;

        /// <summary>Shows nothing yet.</summary>
        public PreviewView()
        {
            style.flexGrow = 1;
            Add(_empty);
            Add(_figure);
            _marks.style.height = 2 * MarkHeight;
            _marks.generateVisualContent += DrawMarks;
            Add(_marks);
            Add(_time);
            _time.RegisterValueChangedCallback(change => ShowAt(change.newValue));
        }

        /// <summary>Told of each time that is shown, seconds.</summary>
        public event System.Action<float> Shown;

        /// <summary>Whether time runs.</summary>
        public bool IsPlaying { get; set; }

        /// <summary>Shows another motion from its beginning; null shows none.</summary>
        public void Load(RecordedMotion motion)
        {
            _motion = motion != null && motion.NumFrames > 0 ? motion : null;
            _empty.style.display = _motion == null ? DisplayStyle.Flex : DisplayStyle.None;
            _marks.MarkDirtyRepaint();
            Bind(null);
            if (_motion == null) return;
            _frame = new MotionFrame(_motion.Header.Model.Skeleton.Parents.Count);
            _time.highValue = (_motion.NumFrames - 1) / _motion.Header.Model.FrameRateHz;
            _time.value = 0;
            ShowAt(0);
        }

        /// <summary>Poses this humanoid too, or none; whoever was posed before stands again as he did.</summary>
        public void Bind(Animator humanoid)
        {
            _before?.Dispose();
            (_before, _retargeter) = (null, null);
            if (humanoid == null || _motion == null) return;
            _before = new PoseSnapshot(humanoid.transform);
            _retargeter = new HumanoidRetargeter(humanoid, _motion.Header.Model.Skeleton) { LockFeet = false };
            _retargeter.RootMotion.Mode = RootMotionMode.InPlace;
        }

        /// <summary>Lets time pass; called by the editor's own clock.</summary>
        public void Tick()
        {
            double nowS = EditorApplication.timeSinceStartup;
            float deltaS = (float)(nowS - _lastS);
            _lastS = nowS;
            if (!IsPlaying || _motion == null || _time.highValue <= 0) return;
            _time.value = (_time.value + deltaS) % _time.highValue;
        }

        /// <summary>Lets go of the humanoid.</summary>
        public void Dispose() => Bind(null);

        void ShowAt(float seconds)
        {
            if (_motion == null) return;
            _motion.ReadFrame(_motion.FrameAt(seconds), _frame);
            _figure.Show(_motion.Header.Model.Skeleton, _frame);
            _retargeter?.Apply(_frame, 0);
            if (_retargeter != null) SceneView.RepaintAll();
            Shown?.Invoke(seconds);
        }

        void DrawMarks(MeshGenerationContext context)
        {
            if (_motion == null) return;
            var painter = context.painter2D;
            (painter.lineWidth, painter.strokeColor) = (MarkHeight - 1, Mark);
            var frame = new MotionFrame(_motion.Header.Model.Skeleton.Parents.Count);
            float width = _marks.contentRect.width / _motion.NumFrames;
            for (int i = 0; i < _motion.NumFrames; i++)
            {
                _motion.ReadFrame(i, frame);
                for (int foot = 0; foot < Feet.Length; foot++)
                {
                    if ((frame.Contacts & Feet[foot]) == 0) continue;
                    float y = MarkHeight * (foot + 0.5f);
                    painter.BeginPath();
                    painter.MoveTo(new Vector2(i * width, y));
                    painter.LineTo(new Vector2((i + 1) * width, y));
                    painter.Stroke();
                }
            }
        }
    }
}
