using System.Collections.Generic;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Which bone of a humanoid each joint of the wire moves.</summary>
    public static class HumanoidBones
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

        /// <summary>Finds the bone of a joint; false for a joint that this client does not know.</summary>
        public static bool TryFind(string joint, out HumanBodyBones bone) => Bones.TryGetValue(joint, out bone);

        /// <summary>Where each joint is in the skeleton's own T-pose, in Unity's space: relative to its parent, the root
        /// above the floor, metres.</summary>
        public static Vector3[] RestOffsets(Skeleton skeleton)
        {
            var wire = Core.FrameReader.RestOffsetsM(skeleton);
            var offsets = new Vector3[wire.Length];
            for (int joint = 0; joint < wire.Length; joint++) offsets[joint] = UnitySpace.Position(wire[joint]);
            if (offsets.Length > 0) offsets[0] = new Vector3(0, skeleton.RestRootHeightM, 0);
            return offsets;
        }
    }
}
