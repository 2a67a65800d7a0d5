using UnityEngine;

namespace MotionR1
{
    /// <summary>What becomes of the motion's way over the floor.</summary>
    public enum RootMotionMode
    {
        /// <summary>The character walks it, from where it stands.</summary>
        Follow,
        /// <summary>It is left out: place and facing are the game's business.</summary>
        InPlace,
    }

    /// <summary>Splits place and facing off a stream of hips, and moves the character by their change; so whoever else
    /// moves the character, a lift for example, is not undone. In Unity's space.</summary>
    public sealed class RootMotion
    {
        // Share of the facing that must be level: below, the character lies and its facing tells nothing.
        const float MinLevel = 0.1f;

        readonly Transform _root;
        readonly float _scale;
        bool _started;
        Vector3 _place;
        float _yawDegrees;

        /// <summary>Moves <paramref name="root"/>, distances times <paramref name="scale"/>.</summary>
        public RootMotion(Transform root, float scale) => (_root, _scale) = (root, scale);

        /// <summary>Whether the character walks.</summary>
        public RootMotionMode Mode { get; set; }


        /// <summary>Takes the next frame's hips, moves the character, and leaves what the pose still needs.</summary>
        public void Take(ref Vector3 hips, ref Quaternion turn)
        {
            var place = new Vector3(hips.x, 0, hips.z);
            var facing = turn * Vector3.forward;
            bool level = facing.x * facing.x + facing.z * facing.z > MinLevel * MinLevel;
            float before = _started ? _yawDegrees : 0;
            float yawDegrees = level ? Mathf.Atan2(facing.x, facing.z) * Mathf.Rad2Deg : before;
            if (_started && Mode == RootMotionMode.Follow)
            {
                var step = Quaternion.Inverse(Yaw(_yawDegrees)) * (place - _place);
                _root.position += _root.rotation * step * _scale;
                _root.rotation = Quaternion.Normalize(_root.rotation * Yaw(yawDegrees - _yawDegrees));
            }
            (_started, _place, _yawDegrees) = (true, place, yawDegrees);
            hips = new Vector3(0, hips.y, 0);
            turn = Quaternion.Inverse(Yaw(yawDegrees)) * turn;
        }

        static Quaternion Yaw(float degrees) => Quaternion.AngleAxis(degrees, Vector3.up);
    }
}
