using System;
using System.Collections.Generic;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Holds a humanoid rig in its avatar's T-pose until it is disposed. The pose on screen will not do: many
    /// rigs are bound in an A-pose.</summary>
    sealed class TPose : IDisposable
    {
        readonly List<(Transform bone, Vector3 position, Quaternion rotation, Vector3 scale)> _before =
            new List<(Transform, Vector3, Quaternion, Vector3)>();

        /// <summary>Poses all bones below the animator. The animator's own object stays: it is where the character is.
        /// </summary>
        public TPose(Animator animator)
        {
            var table = new Dictionary<string, SkeletonBone>();
            foreach (var bone in animator.avatar.humanDescription.skeleton) table[bone.name] = bone;
            Pose(animator.transform, table);
        }

        /// <summary>Puts everything back.</summary>
        public void Dispose()
        {
            foreach (var (bone, position, rotation, scale) in _before)
                (bone.localPosition, bone.localRotation, bone.localScale) = (position, rotation, scale);
        }

        void Pose(Transform parent, Dictionary<string, SkeletonBone> table)
        {
            for (int i = 0; i < parent.childCount; i++)
            {
                var bone = parent.GetChild(i);
                if (table.TryGetValue(bone.name, out var rest))
                {
                    _before.Add((bone, bone.localPosition, bone.localRotation, bone.localScale));
                    (bone.localPosition, bone.localRotation) = (rest.position, rest.rotation);
                    bone.localScale = rest.scale;
                }
                Pose(bone, table);
            }
        }
    }
}
