using System;
using System.Collections.Generic;
using System.Linq;
using MotionR1.Core.V1;
using UnityEngine;
using Object = UnityEngine.Object;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    /// <summary>The wire's body, and rigs of its shape with bones of any axes, as different modelling programs make
    /// them. </summary>
    sealed class Rig : IDisposable
    {
        public static readonly string[] Names =
        {
            "pelvis", "l_hip", "r_hip", "spine1", "l_knee", "r_knee", "spine2", "l_ankle", "r_ankle", "spine3",
            "l_foot", "r_foot", "neck", "l_collar", "r_collar", "head", "l_shoulder", "r_shoulder", "l_elbow",
            "r_elbow", "l_wrist", "r_wrist",
        };

        public static readonly int[] Parents =
        {
            -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19,
        };

        public static readonly HumanBodyBones[] Bones =
        {
            HumanBodyBones.Hips, HumanBodyBones.LeftUpperLeg, HumanBodyBones.RightUpperLeg, HumanBodyBones.Spine,
            HumanBodyBones.LeftLowerLeg, HumanBodyBones.RightLowerLeg, HumanBodyBones.Chest, HumanBodyBones.LeftFoot,
            HumanBodyBones.RightFoot, HumanBodyBones.UpperChest, HumanBodyBones.LeftToes, HumanBodyBones.RightToes,
            HumanBodyBones.Neck, HumanBodyBones.LeftShoulder, HumanBodyBones.RightShoulder, HumanBodyBones.Head,
            HumanBodyBones.LeftUpperArm, HumanBodyBones.RightUpperArm, HumanBodyBones.LeftLowerArm,
            HumanBodyBones.RightLowerArm, HumanBodyBones.LeftHand, HumanBodyBones.RightHand,
        };

        // Relative to the parent, in the wire's space: +X is the character's left.
        static readonly float[,] Offsets =
        {
            { 0, 0, 0 }, { .06f, -.09f, 0 }, { -.06f, -.09f, 0 }, { 0, .12f, -.04f }, { 0, -.39f, 0 }, { 0, -.39f, 0 },
            { 0, .14f, .03f }, { 0, -.43f, 0 }, { 0, -.43f, 0 }, { 0, .05f, 0 }, { 0, -.05f, .13f }, { 0, -.05f, .13f },
            { 0, .22f, -.05f }, { .07f, .11f, -.03f }, { -.07f, .11f, -.03f }, { 0, .15f, .05f }, { .12f, .04f, 0 },
            { -.12f, .04f, 0 }, { .26f, 0, 0 }, { -.26f, 0, 0 }, { .25f, 0, 0 }, { -.25f, 0, 0 },
        };

        /// <summary>Height of the hips above the floor, metres.</summary>
        public const float RestHipsM = 0.96f;

        readonly Quaternion[] _tPose = new Quaternion[Names.Length];

        /// <summary>Stands in its T-pose, its root somewhere in the world.</summary>
        /// <param name="random">Chooses the bones' axes and the root's place.</param>
        /// <param name="scale">Size over the wire's body.</param>
        /// <param name="missing">Joints for which the rig has no bone.</param>
        public Rig(System.Random random, float scale = 1, params string[] missing)
        {
            Scale = scale;
            Root = new GameObject("Character").transform;
            Root.position = Point(random);
            Root.rotation = Turn(random);
            for (int j = 0; j < Names.Length; j++)
            {
                if (missing.Contains(Names[j])) continue;
                int parent = Parents[j];
                while (parent >= 0 && Joints[parent] == null) parent = Parents[parent];
                Joints[j] = new GameObject("bone_" + Names[j]).transform;
                Joints[j].SetParent(parent < 0 ? Root : Joints[parent], false);
                _tPose[j] = Turn(random);
                Joints[j].rotation = Root.rotation * _tPose[j];
                Joints[j].position = Root.position + Root.rotation * Rest(j) * scale;
            }
        }

        public float Scale { get; }

        public Transform Root { get; }

        /// <summary>One a joint; null where one is missing.</summary>
        public Transform[] Joints { get; } = new Transform[Names.Length];

        public static Vector3 RestHips => new Vector3(0, RestHipsM, 0);

        public static Wire.Vector3 Offset(int joint) =>
            new Wire.Vector3(Offsets[joint, 0], Offsets[joint, 1], Offsets[joint, 2]);

        /// <summary>The wire's body.</summary>
        public static Skeleton Skeleton()
        {
            var skeleton = new Skeleton { Name = "body22", RestRootHeightM = RestHipsM };
            skeleton.JointNames.AddRange(Names);
            skeleton.Parents.AddRange(Parents);
            var offsets = Enumerable.Range(0, Names.Length).Select(Offset);
            skeleton.RestOffsetsM = Streams.Bytes(offsets.SelectMany(o => new[] { o.X, o.Y, o.Z }).ToArray());
            return skeleton;
        }

        /// <summary>Where forward kinematics puts joints, in Unity's space, the character's root at the
        /// origin.</summary>
        public static (Vector3[] positions, Quaternion[] turned) Forward(Vector3 hips, Quaternion[] local)
        {
            var positions = new Vector3[local.Length];
            var turned = new Quaternion[local.Length];
            for (int j = 0; j < local.Length; j++)
            {
                int parent = Parents[j];
                turned[j] = parent < 0 ? local[j] : turned[parent] * local[j];
                positions[j] = parent < 0 ? hips : positions[parent] + turned[parent] * UnitySpace.Position(Offset(j));
            }
            return (positions, turned);
        }

        /// <summary>What the rig must look like then: joints in the world.</summary>
        public void AssertStands(Vector3[] positions, Quaternion[] turned, Vector3 rootPosition,
            Quaternion rootRotation)
        {
            for (int j = 0; j < Joints.Length; j++)
            {
                if (Joints[j] == null) continue;
                var expected = rootPosition + rootRotation * positions[j] * Scale;
                Near.AssertEqual(Joints[j].position, expected, Names[j]);
                Near.AssertEqual(Joints[j].rotation, rootRotation * turned[j] * _tPose[j], Names[j]);
            }
        }

        /// <summary>How far a bone has turned since the T-pose, in the world.</summary>
        public Quaternion Turned(int joint) => Joints[joint].rotation * Quaternion.Inverse(_tPose[joint]);

        /// <summary>Gives the character an Animator whose avatar knows this T-pose.</summary>
        public Animator AddAnimator()
        {
            var description = new HumanDescription { human = Human().ToArray(), skeleton = Table().ToArray() };
            var animator = Root.gameObject.AddComponent<Animator>();
            animator.avatar = AvatarBuilder.BuildHumanAvatar(Root.gameObject, description);
            return animator;
        }

        public void Dispose() => Object.DestroyImmediate(Root.gameObject);

        public static Vector3 Point(System.Random random) =>
            new Vector3(Number(random), Number(random), Number(random));

        public static Quaternion Turn(System.Random random) =>
            Quaternion.Normalize(new Quaternion(Number(random), Number(random), Number(random), Number(random)));

        public static Quaternion[] Turns(System.Random random) => Names.Select(_ => Turn(random)).ToArray();

        IEnumerable<HumanBone> Human()
        {
            for (int j = 0; j < Joints.Length; j++)
                if (Joints[j] != null)
                    yield return new HumanBone
                    {
                        boneName = Joints[j].name,
                        humanName = Bones[j].ToString(),
                        limit = new HumanLimit { useDefaultValues = true },
                    };
        }

        IEnumerable<SkeletonBone> Table()
        {
            // The entry of the root bears the name that it had on import, and must not move the character.
            yield return new SkeletonBone { name = "Model", rotation = Quaternion.identity, scale = Vector3.one };
            foreach (var bone in Joints.Where(bone => bone != null))
                yield return new SkeletonBone
                {
                    name = bone.name,
                    position = bone.localPosition,
                    rotation = bone.localRotation,
                    scale = bone.localScale,
                };
        }

        static Vector3 Rest(int joint)
        {
            var position = RestHips;
            for (int j = joint; j > 0; j = Parents[j]) position += UnitySpace.Position(Offset(j));
            return position;
        }

        static float Number(System.Random random) => (float)(2 * random.NextDouble() - 1);
    }
}
