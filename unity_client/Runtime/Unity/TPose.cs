using System;
using System.Collections.Generic;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Holds a humanoid rig in its T-pose until it is disposed. The pose on screen will not do: many rigs are
    /// bound in an A-pose. Nor is what the avatar holds always a T-pose: limbs that are not straight there are turned to
    /// where the source's own T-pose has them, so that the directions of bones come out right.</summary>
    sealed class TPose : IDisposable
    {
        // From joint to joint, parents first. What hangs on a limb goes with it: hands do, feet stay level.
        static readonly (HumanBodyBones from, HumanBodyBones to)[] Limbs =
        {
            (HumanBodyBones.LeftUpperArm, HumanBodyBones.LeftLowerArm),
            (HumanBodyBones.LeftLowerArm, HumanBodyBones.LeftHand),
            (HumanBodyBones.RightUpperArm, HumanBodyBones.RightLowerArm),
            (HumanBodyBones.RightLowerArm, HumanBodyBones.RightHand),
            (HumanBodyBones.LeftUpperLeg, HumanBodyBones.LeftLowerLeg),
            (HumanBodyBones.LeftLowerLeg, HumanBodyBones.LeftFoot),
            (HumanBodyBones.RightUpperLeg, HumanBodyBones.RightLowerLeg),
            (HumanBodyBones.RightLowerLeg, HumanBodyBones.RightFoot),
        };

        static readonly HumanBodyBones[] Feet = { HumanBodyBones.LeftFoot, HumanBodyBones.RightFoot };

        readonly List<(Transform bone, Vector3 position, Quaternion rotation, Vector3 scale)> _before =
            new List<(Transform, Vector3, Quaternion, Vector3)>();

        /// <summary>Poses all bones below the animator. The animator's own object stays: it is where the character is.
        /// </summary>
        public TPose(Animator animator, Skeleton source)
        {
            var table = new Dictionary<string, SkeletonBone>();
            foreach (var bone in animator.avatar.humanDescription.skeleton) table[bone.name] = bone;
            Pose(animator.transform, table);
            Straighten(animator, source);
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
                _before.Add((bone, bone.localPosition, bone.localRotation, bone.localScale));
                if (table.TryGetValue(bone.name, out var rest))
                {
                    (bone.localPosition, bone.localRotation) = (rest.position, rest.rotation);
                    bone.localScale = rest.scale;
                }
                Pose(bone, table);
            }
        }

        static void Straighten(Animator animator, Skeleton source)
        {
            var offsets = HumanoidBones.RestOffsets(source);
            var directions = new Dictionary<HumanBodyBones, Vector3>();
            for (int joint = 1; joint < offsets.Length; joint++)
                if (HumanoidBones.TryFind(source.JointNames[joint], out var bone)) directions[bone] = offsets[joint];

            var root = animator.transform;
            var level = new Quaternion[Feet.Length];
            for (int i = 0; i < Feet.Length; i++) level[i] = Bone(animator, Feet[i])?.rotation ?? Quaternion.identity;
            float before = Height(animator);
            foreach (var (from, to) in Limbs)
            {
                var (bone, end) = (Bone(animator, from), Bone(animator, to));
                if (bone == null || end == null || !directions.TryGetValue(to, out var direction)) continue;
                var now = end.position - bone.position;
                bone.rotation = Quaternion.FromToRotation(now, root.rotation * direction) * bone.rotation;
            }
            for (int i = 0; i < Feet.Length; i++)
                if (Bone(animator, Feet[i]) is { } foot) foot.rotation = level[i];
            // Straight legs are longer: the hips go up, the feet stay on the floor.
            Bone(animator, HumanBodyBones.Hips).position += root.rotation * Vector3.up * (before - Height(animator));
        }

        // Of the feet, mean, above the character's root.
        static float Height(Animator animator)
        {
            var root = animator.transform;
            float sum = 0;
            foreach (var foot in Feet)
                if (Bone(animator, foot) is { } bone)
                    sum += (Quaternion.Inverse(root.rotation) * (bone.position - root.position)).y / Feet.Length;
            return sum;
        }

        // Unity's own null, which == knows and ?. does not, becomes a real one.
        static Transform Bone(Animator animator, HumanBodyBones bone)
        {
            var transform = animator.GetBoneTransform(bone);
            return transform == null ? null : transform;
        }
    }
}
