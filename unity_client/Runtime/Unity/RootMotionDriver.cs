using System;
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
        /// <summary>A CharacterController beside the Animator walks it, and stops where something is in the way. Gravity
        /// stays the game's business.</summary>
        CharacterController,
        /// <summary>The game is told each step and goes it as it likes, for example with a NavMeshAgent.</summary>
        Callback,
    }

    /// <summary>Splits place and facing off a stream of hips, and moves the character by their change; so whoever else
    /// moves the character, a lift for example, is not undone. In Unity's space.</summary>
    public sealed class RootMotionDriver
    {
        // Share of the facing that must be level: below, the character lies and its facing tells nothing.
        const float MinLevel = 0.1f;

        readonly Transform _root;
        readonly float _scale;
        bool _started;
        Vector3 _place;
        float _yawDegrees;

        /// <summary>Moves <paramref name="root"/>, distances times <paramref name="scale"/>.</summary>
        public RootMotionDriver(Transform root, float scale)
        {
            (_root, _scale) = (root, scale);
            Restart();
        }

        /// <summary>Who moves the character.</summary>
        public RootMotionMode Mode { get; set; }

        /// <summary>Goes the steps of <see cref="RootMotionMode.CharacterController"/>; unless it is set, the one beside
        /// the Animator when a motion begins.</summary>
        public CharacterController Controller { get; set; }

        /// <summary>Gets the steps of <see cref="RootMotionMode.Callback"/>: metres in the world, and the turn that is
        /// multiplied to the character's rotation from the right.</summary>
        public Action<Vector3, Quaternion> Moved { get; set; }

        /// <summary>Says that another motion begins: its first frame is where the character stands.</summary>
        public void Restart()
        {
            _started = false;
            if (Controller == null) Controller = _root.GetComponent<CharacterController>();
        }

        /// <summary>Takes the next frame's hips, moves the character, and leaves what the pose still needs.</summary>
        public void Take(ref Vector3 hips, ref Quaternion turn)
        {
            var place = new Vector3(hips.x, 0, hips.z);
            var facing = turn * Vector3.forward;
            bool level = facing.x * facing.x + facing.z * facing.z > MinLevel * MinLevel;
            float before = _started ? _yawDegrees : 0;
            float yawDegrees = level ? Mathf.Atan2(facing.x, facing.z) * Mathf.Rad2Deg : before;
            if (_started)
            {
                var step = Quaternion.Inverse(Yaw(_yawDegrees)) * (place - _place);
                Move(_root.rotation * step * _scale, Yaw(yawDegrees - _yawDegrees));
            }
            (_started, _place, _yawDegrees) = (true, place, yawDegrees);
            hips = new Vector3(0, hips.y, 0);
            turn = Quaternion.Inverse(Yaw(yawDegrees)) * turn;
        }

        void Move(Vector3 step, Quaternion turn)
        {
            switch (Mode)
            {
                case RootMotionMode.Follow:
                    _root.position += step;
                    break;
                case RootMotionMode.CharacterController when Controller != null:
                    Controller.Move(step);
                    break;
                case RootMotionMode.Callback:
                    Moved?.Invoke(step, turn);
                    return;
                default:
                    return;
            }
            _root.rotation = Quaternion.Normalize(_root.rotation * turn);
        }

        static Quaternion Yaw(float degrees) => Quaternion.AngleAxis(degrees, Vector3.up);
    }
}
