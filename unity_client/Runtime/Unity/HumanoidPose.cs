using System;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Poses a rig whose bones may have any axes. What it is given is already in Unity's space.</summary>
    /// <remarks>With W the rotation of a bone in the T-pose and G the rotation of its joint since the T-pose, both in
    /// the character's space, the bone's rotation is root G W. A bone that the rig lacks needs no care: G runs over all
    /// joints of the source, and the next bone that is there takes up all of it.</remarks>
    public sealed class HumanoidPose
    {
        readonly Transform _root;
        readonly int[] _parents;
        readonly Transform[] _bones;
        readonly Quaternion[] _rest;    // bone in the T-pose, character's space
        readonly Quaternion[] _turned;  // joint since the T-pose, character's space
        readonly Quaternion[] _goal;    // bone as it will be, character's space
        readonly Quaternion[] _kept;    // bone as it was on screen when it was kept
        readonly Vector3 _restHips;
        readonly Vector3 _sourceRestHips;
        Vector3 _goalHips;
        Vector3 _keptHips;
        bool _applied;

        /// <summary>Reads the rig, which must stand in its T-pose now.</summary>
        /// <param name="root">What moves the whole character.</param>
        /// <param name="bones">One a joint, null where the rig has none; the first, the hips, must be there.</param>
        /// <param name="parents">The source's parents, which come before their children; -1 for the first.</param>
        /// <param name="sourceRestHips">Where the source's hips are in its own T-pose, its floor at 0, metres.</param>
        public HumanoidPose(Transform root, Transform[] bones, int[] parents, Vector3 sourceRestHips)
        {
            if (bones.Length != parents.Length)
                throw new ArgumentException($"{bones.Length} bones do not fit {parents.Length} parents");
            if (bones[0] == null) throw new ArgumentException("the rig has no hips");
            if (!(sourceRestHips.y > 0))
                throw new ArgumentException($"expected hips above the floor, got {sourceRestHips.y} m");
            (_root, _bones, _parents, _sourceRestHips) = (root, bones, parents, sourceRestHips);
            (_rest, _turned) = (new Quaternion[bones.Length], new Quaternion[bones.Length]);
            (_goal, _kept) = (new Quaternion[bones.Length], new Quaternion[bones.Length]);
            Read(_rest, out _restHips);
            Scale = _restHips.y / sourceRestHips.y;
        }

        /// <summary>Height of the rig's hips over that of the source's: by it, distances are scaled.</summary>
        public float Scale { get; }

        /// <summary>Poses the rig.</summary>
        /// <param name="hips">Position of the source's hips, metres.</param>
        /// <param name="local">One rotation a joint, relative to its parent.</param>
        /// <param name="kept">Share of the pose that <see cref="Keep"/> kept, 0 to 1.</param>
        /// <param name="idle">Share of the pose that the rig has now, for example from the Animator, 0 to 1.</param>
        public void Apply(Vector3 hips, Quaternion[] local, float kept = 0, float idle = 0)
        {
            for (int j = 0; j < local.Length; j++)
            {
                _turned[j] = _parents[j] < 0 ? local[j] : _turned[_parents[j]] * local[j];
                _goal[j] = _turned[j] * _rest[j];
            }
            _goalHips = _restHips + (hips - _sourceRestHips) * Scale;
            if (kept > 0) Blend(_kept, _keptHips, kept);
            if (idle > 0)
            {
                // Joints have been used: their array is free.
                Read(_turned, out var idleHips);
                Blend(_turned, idleHips, idle);
            }
            // Every look at a Transform goes through the engine.
            var (position, rotation) = (_root.position, _root.rotation);
            for (int j = 0; j < _goal.Length; j++)
                if (_bones[j] != null) _bones[j].rotation = rotation * _goal[j];
            _bones[0].position = position + rotation * _goalHips;
            _applied = true;
        }

        /// <summary>Keeps what was applied last, the rig's own pose if nothing was, so that the next motion can begin
        /// from it.</summary>
        public void Keep()
        {
            if (!_applied) Read(_goal, out _goalHips);
            Array.Copy(_goal, _kept, _goal.Length);
            _keptHips = _goalHips;
        }

        /// <summary>Says that the rig goes back to the game.</summary>
        public void Release() => _applied = false;

        void Read(Quaternion[] into, out Vector3 hips)
        {
            var toCharacter = Quaternion.Inverse(_root.rotation);
            for (int j = 0; j < _bones.Length; j++)
                if (_bones[j] != null) into[j] = toCharacter * _bones[j].rotation;
            hips = toCharacter * (_bones[0].position - _root.position);
        }

        void Blend(Quaternion[] other, Vector3 otherHips, float share)
        {
            for (int j = 0; j < _goal.Length; j++)
                if (_bones[j] != null) _goal[j] = Quaternion.Slerp(_goal[j], other[j], share);
            _goalHips = Vector3.Lerp(_goalHips, otherHips, share);
        }
    }
}
