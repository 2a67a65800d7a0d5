using System;
using System.Collections.Generic;
using System.Linq;
using UnityEngine;
using Object = UnityEngine.Object;

namespace MotionR1.Tests
{
    /// <summary>A rig as some modelling program might leave it: any size, an armature node of any turn and scale above the
    /// hips, bones of any axes and of other lengths than the wire's, optional bones missing; its avatar's T-pose exact,
    /// or the A-pose that it was bound in.</summary>
    sealed class RandomRig : IDisposable
    {
        static readonly string[] Optional = { "spine3", "spine2", "neck", "l_collar", "r_collar", "l_foot", "r_foot" };
        static readonly float[] ArmatureScales = { 1, 0.01f, 100 };

        readonly Random _random;
        readonly Vector3[] _rest = new Vector3[Rig.Names.Length];

        public RandomRig(Random random, bool aPose, Func<string, float> length = null)
        {
            _random = random;
            length ??= _ => 0.7f + 0.7f * (float)random.NextDouble();
            Root = new GameObject("Character").transform;
            (Root.position, Root.rotation) = (Rig.Point(random), Rig.Turn(random));
            float size = 0.3f + 2.7f * (float)random.NextDouble();
            Root.localScale = Vector3.one * size;
            var armature = new GameObject("Armature").transform;
            armature.SetParent(Root, false);
            armature.localRotation = Rig.Turn(random);
            armature.localScale = Vector3.one * ArmatureScales[random.Next(ArmatureScales.Length)];

            var missing = Optional.Where(_ => random.NextDouble() < 0.4).ToList();
            if (missing.Contains("spine2")) missing.Add("spine3");  // an upper chest needs a chest
            var lengths = Rig.Names.Select(name => length(name.Substring(name.IndexOf('_') + 1))).ToArray();
            for (int j = 0; j < Rig.Names.Length; j++)
            {
                int parent = Rig.Parents[j];
                var offset = UnitySpace.Position(Rig.Offset(j)) * lengths[j];
                _rest[j] = parent < 0 ? Hips(lengths) : _rest[parent] + offset;
                if (missing.Contains(Rig.Names[j])) continue;
                while (parent >= 0 && Joints[parent] == null) parent = Rig.Parents[parent];
                Joints[j] = new GameObject("bone_" + Rig.Names[j]).transform;
                Joints[j].SetParent(parent < 0 ? armature : Joints[parent], false);
                Joints[j].rotation = Root.rotation * Rig.Turn(random);
                Joints[j].position = Root.position + Root.rotation * _rest[j] * size;
            }
            if (aPose) Lower();
            var description = new HumanDescription { human = Human().ToArray(), skeleton = Table(armature).ToArray() };
            Animator = Root.gameObject.AddComponent<Animator>();
            Animator.avatar = AvatarBuilder.BuildHumanAvatar(Root.gameObject, description);
            Shake();
        }

        public Transform Root { get; }

        public Animator Animator { get; }

        /// <summary>One a joint; null where one is missing.</summary>
        public Transform[] Joints { get; } = new Transform[Rig.Names.Length];

        /// <summary>Any pose, as on screen.</summary>
        public void Shake()
        {
            foreach (var bone in Joints.Where(bone => bone != null)) bone.localRotation = Rig.Turn(_random);
        }

        /// <summary>Whether a bone begins at the joint's own parent, so that its direction is the source's.</summary>
        public bool Compares(int joint) =>
            joint > 0 && Joints[joint] != null && Joints[Rig.Parents[joint]] != null;

        public void Dispose() => Object.DestroyImmediate(Root.gameObject);

        // Arms down by 45 degrees, elbows bent by 10, legs apart by 8; feet stay level.
        void Lower()
        {
            var feet = new[] { "l_ankle", "r_ankle" }.Select(Bone).ToArray();
            var level = feet.Select(foot => foot.rotation).ToArray();
            var right = Root.rotation * Vector3.right;
            var forward = Root.rotation * Vector3.forward;
            void Turn(string name, Vector3 axis, float degrees) =>
                Bone(name).rotation = Quaternion.AngleAxis(degrees, axis) * Bone(name).rotation;
            Turn("l_shoulder", forward, 45);
            Turn("r_shoulder", forward, -45);
            Turn("l_elbow", right, 10);
            Turn("r_elbow", right, -10);
            Turn("l_hip", forward, -8);
            Turn("r_hip", forward, 8);
            for (int i = 0; i < feet.Length; i++) feet[i].rotation = level[i];
        }

        // So high that the left foot stands where the source's does: the root is on the floor.
        static Vector3 Hips(float[] lengths)
        {
            float height = Rig.RestHipsM;
            for (int j = Array.IndexOf(Rig.Names, "l_ankle"); j > 0; j = Rig.Parents[j])
                height += Rig.Offset(j).Y * (1 - lengths[j]);
            return new Vector3(0, height, 0);
        }

        Transform Bone(string name) => Joints[Array.IndexOf(Rig.Names, name)];

        IEnumerable<HumanBone> Human()
        {
            for (int j = 0; j < Joints.Length; j++)
                if (Joints[j] != null)
                    yield return new HumanBone { boneName = Joints[j].name, humanName = Rig.Bones[j].ToString() };
        }

        IEnumerable<SkeletonBone> Table(Transform armature)
        {
            yield return new SkeletonBone { name = "Model", rotation = Quaternion.identity, scale = Vector3.one };
            foreach (var bone in Joints.Where(bone => bone != null).Prepend(armature))
                yield return new SkeletonBone
                {
                    name = bone.name,
                    position = bone.localPosition,
                    rotation = bone.localRotation,
                    scale = bone.localScale,
                };
        }
    }
}
