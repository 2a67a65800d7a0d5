using System;
using System.Collections.Generic;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;
using Object = UnityEngine.Object;

namespace MotionR1.Editor
{
    /// <summary>The wire's own body as a hidden humanoid rig: clips are baked on it. Dispose it, or it stays in the
    /// scene.</summary>
    public sealed class Figure : IDisposable
    {
        readonly HumanoidRetargeter _retargeter;

        /// <summary>Builds bones at the skeleton's T-pose and an avatar for them.</summary>
        public Figure(Skeleton skeleton)
        {
            var offsets = HumanoidBones.RestOffsets(skeleton);
            Object = new GameObject("Motion-R1 figure") { hideFlags = HideFlags.HideAndDontSave };
            var table = new List<SkeletonBone> { Entry(Object.transform) };
            var human = new List<HumanBone>();
            var bones = new Transform[offsets.Length];
            for (int joint = 0; joint < bones.Length; joint++)
            {
                bones[joint] = new GameObject(skeleton.JointNames[joint]) { hideFlags = HideFlags.HideAndDontSave }
                    .transform;
                int parent = skeleton.Parents[joint];
                bones[joint].SetParent(parent < 0 ? Object.transform : bones[parent], false);
                bones[joint].localPosition = offsets[joint];
                table.Add(Entry(bones[joint]));
                if (HumanoidBones.TryFind(skeleton.JointNames[joint], out var bone))
                    human.Add(new HumanBone
                    {
                        boneName = bones[joint].name,
                        humanName = HumanTrait.BoneName[(int)bone],
                        limit = new HumanLimit { useDefaultValues = true },
                    });
            }
            Animator = Object.AddComponent<Animator>();
            Animator.avatar = AvatarBuilder.BuildHumanAvatar(Object, new HumanDescription
            {
                human = human.ToArray(),
                skeleton = table.ToArray(),
                upperArmTwist = 0.5f,
                lowerArmTwist = 0.5f,
                upperLegTwist = 0.5f,
                lowerLegTwist = 0.5f,
                armStretch = 0.05f,
                legStretch = 0.05f,
            });
            if (!Animator.avatar.isValid)
            {
                Dispose();
                throw new InvalidOperationException($"skeleton {skeleton.Name} makes no valid avatar");
            }
            _retargeter = new HumanoidRetargeter(Animator, skeleton) { LockFeet = false };
        }

        /// <summary>The rig.</summary>
        public GameObject Object { get; }

        /// <summary>Its Animator, with the avatar.</summary>
        public Animator Animator { get; }

        /// <summary>Poses it; the object itself walks, unless it stays in place.</summary>
        public void Pose(MotionFrame frame, bool inPlace)
        {
            _retargeter.RootMotion.Mode = inPlace ? RootMotionMode.InPlace : RootMotionMode.Follow;
            _retargeter.Apply(frame, 0);
        }

        /// <summary>Removes it.</summary>
        public void Dispose() => UnityEngine.Object.DestroyImmediate(Object);

        static SkeletonBone Entry(Transform bone) => new SkeletonBone
        {
            name = bone.name,
            position = bone.localPosition,
            rotation = bone.localRotation,
            scale = bone.localScale,
        };
    }
}
