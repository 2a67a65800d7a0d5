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
        readonly Vector3 _restHips;
        readonly Vector3 _sourceRestHips;

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
            var toCharacter = Quaternion.Inverse(root.rotation);
            for (int j = 0; j < bones.Length; j++)
                if (bones[j] != null) _rest[j] = toCharacter * bones[j].rotation;
            _restHips = toCharacter * (bones[0].position - root.position);
            Scale = _restHips.y / sourceRestHips.y;
        }

        /// <summary>Height of the rig's hips over that of the source's: by it, distances are scaled.</summary>
        public float Scale { get; }

        /// <summary>Poses the rig.</summary>
        /// <param name="hips">Position of the source's hips, metres.</param>
        /// <param name="local">One rotation a joint, relative to its parent.</param>
        public void Apply(Vector3 hips, Quaternion[] local)
        {
            for (int j = 0; j < local.Length; j++)
            {
                _turned[j] = _parents[j] < 0 ? local[j] : _turned[_parents[j]] * local[j];
                if (_bones[j] != null) _bones[j].rotation = _root.rotation * _turned[j] * _rest[j];
            }
            var place = _restHips + (hips - _sourceRestHips) * Scale;
            _bones[0].position = _root.position + _root.rotation * place;
        }
    }
}
