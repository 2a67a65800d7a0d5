using System;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>The built-in figure: bones as lines, seen from the side and a little above. Dragging turns it.</summary>
    public sealed class StickFigure : VisualElement
    {
        const float Line = 3, Tilt = 0.15f, DegreesAPixel = 0.5f;
        static readonly Color Bone = new Color(0.85f, 0.85f, 0.85f), Standing = new Color(0.35f, 0.85f, 0.45f);

        Vector3[] _offsets = Array.Empty<Vector3>();
        Vector3[] _positions = Array.Empty<Vector3>();
        Quaternion[] _turned = Array.Empty<Quaternion>();
        Skeleton _skeleton;
        FootContacts _contacts;
        float _yaw = 60;

        /// <summary>Empty until <see cref="Show"/>.</summary>
        public StickFigure()
        {
            (style.flexGrow, style.minHeight) = (1, 200);
            generateVisualContent += Draw;
            RegisterCallback<PointerMoveEvent>(move =>
            {
                if (move.pressedButtons == 0) return;
                _yaw += move.deltaPosition.x * DegreesAPixel;
                MarkDirtyRepaint();
            });
        }

        /// <summary>Draws a pose; the body stays in the middle.</summary>
        public void Show(Skeleton skeleton, MotionFrame frame)
        {
            if (_skeleton != skeleton)
            {
                (_skeleton, _offsets) = (skeleton, HumanoidBones.RestOffsets(skeleton));
                (_positions, _turned) = (new Vector3[_offsets.Length], new Quaternion[_offsets.Length]);
            }
            for (int joint = 0; joint < _offsets.Length; joint++)
            {
                int parent = skeleton.Parents[joint];
                var local = UnitySpace.Rotation(frame.JointRotations[joint]);
                _turned[joint] = parent < 0 ? local : _turned[parent] * local;
                _positions[joint] = parent < 0 ? new Vector3(0, frame.RootPositionM.Y, 0) :
                    _positions[parent] + _turned[parent] * _offsets[joint];
            }
            _contacts = frame.Contacts;
            MarkDirtyRepaint();
        }

        void Draw(MeshGenerationContext context)
        {
            if (_skeleton == null) return;
            var painter = context.painter2D;
            float scale = contentRect.height / 2.1f;
            painter.lineWidth = Line;
            for (int joint = 1; joint < _positions.Length; joint++)
            {
                painter.strokeColor = Stands(_skeleton.JointNames[joint]) ? Standing : Bone;
                painter.BeginPath();
                painter.MoveTo(OnPaper(_positions[_skeleton.Parents[joint]], scale));
                painter.LineTo(OnPaper(_positions[joint], scale));
                painter.Stroke();
            }
        }

        Vector2 OnPaper(Vector3 point, float scale)
        {
            var turned = Quaternion.AngleAxis(_yaw, Vector3.up) * point;
            return new Vector2(contentRect.width / 2 + turned.x * scale,
                contentRect.height * 0.95f - (turned.y + turned.z * Tilt) * scale);
        }

        bool Stands(string joint) => joint switch
        {
            "l_ankle" => (_contacts & FootContacts.LeftAnkle) != 0,
            "l_foot" => (_contacts & FootContacts.LeftFoot) != 0,
            "r_ankle" => (_contacts & FootContacts.RightAnkle) != 0,
            "r_foot" => (_contacts & FootContacts.RightFoot) != 0,
            _ => false,
        };
    }
}
