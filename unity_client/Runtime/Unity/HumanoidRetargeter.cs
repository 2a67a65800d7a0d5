using System;
using System.Collections.Generic;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Puts frames of a stream on a humanoid rig. Main thread only.</summary>
    public sealed class HumanoidRetargeter
    {
        static readonly Dictionary<string, HumanBodyBones> Bones = new Dictionary<string, HumanBodyBones>
        {
            ["pelvis"] = HumanBodyBones.Hips,
            ["l_hip"] = HumanBodyBones.LeftUpperLeg,
            ["r_hip"] = HumanBodyBones.RightUpperLeg,
            ["spine1"] = HumanBodyBones.Spine,
            ["l_knee"] = HumanBodyBones.LeftLowerLeg,
            ["r_knee"] = HumanBodyBones.RightLowerLeg,
            ["spine2"] = HumanBodyBones.Chest,
            ["l_ankle"] = HumanBodyBones.LeftFoot,
            ["r_ankle"] = HumanBodyBones.RightFoot,
            ["spine3"] = HumanBodyBones.UpperChest,
            ["l_foot"] = HumanBodyBones.LeftToes,
            ["r_foot"] = HumanBodyBones.RightToes,
            ["neck"] = HumanBodyBones.Neck,
            ["l_collar"] = HumanBodyBones.LeftShoulder,
            ["r_collar"] = HumanBodyBones.RightShoulder,
            ["head"] = HumanBodyBones.Head,
            ["l_shoulder"] = HumanBodyBones.LeftUpperArm,
            ["r_shoulder"] = HumanBodyBones.RightUpperArm,
            ["l_elbow"] = HumanBodyBones.LeftLowerArm,
            ["r_elbow"] = HumanBodyBones.RightLowerArm,
            ["l_wrist"] = HumanBodyBones.LeftHand,
            ["r_wrist"] = HumanBodyBones.RightHand,
        };

        readonly HumanoidPose _pose;
        readonly RootMotion _rootMotion;
        readonly Quaternion[] _local;

        /// <summary>Binds joints to bones by name, and measures the rig's T-pose.</summary>
        public HumanoidRetargeter(Animator animator, Skeleton skeleton)
        {
            if (animator == null || animator.avatar == null || !animator.avatar.isValid || !animator.avatar.isHuman)
                throw new InvalidOperationException(
                    "expected an Animator with a valid humanoid Avatar; " +
                    "set Animation Type to Humanoid in the model's import settings");
            if (animator.GetBoneTransform(HumanBodyBones.Hips) == null)
                throw new InvalidOperationException(
                    $"{animator.name}: the bones are not there; " +
                    "switch off Optimize Game Objects in the model's import settings");

            var bones = new Transform[skeleton.JointNames.Count];
            for (int joint = 0; joint < bones.Length; joint++)
                if (Bones.TryGetValue(skeleton.JointNames[joint], out var bone))
                    bones[joint] = animator.GetBoneTransform(bone);
            if (bones[0] == null)
                throw new InvalidOperationException(
                    $"skeleton {skeleton.Name} begins with '{skeleton.JointNames[0]}'; " +
                    "this client binds 'pelvis' to the hips");

            var restHips = new Vector3(0, skeleton.RestRootHeightM, 0);
            using (new TPose(animator))
                _pose = new HumanoidPose(animator.transform, bones, skeleton.Parents.ToArray(), restHips);
            _rootMotion = new RootMotion(animator.transform, _pose.Scale);
            _local = new Quaternion[bones.Length];
        }

        /// <summary>Whether the character walks.</summary>
        public RootMotionMode Mode
        {
            get => _rootMotion.Mode;
            set => _rootMotion.Mode = value;
        }

        /// <summary>Poses the rig and, in <see cref="RootMotionMode.Follow"/>, moves the character by what has changed
        /// since the last frame. Call it in LateUpdate: the Animator has written its own pose by then.</summary>
        public void Apply(MotionFrame frame)
        {
            for (int joint = 0; joint < _local.Length; joint++)
                _local[joint] = UnitySpace.Rotation(frame.JointRotations[joint]);
            var hips = UnitySpace.Position(frame.RootPositionM);
            _rootMotion.Take(ref hips, ref _local[0]);
            _pose.Apply(hips, _local);
        }
    }
}
