// Stands in for UnityEngine: clips, curves, and muscles. The muscles are the stub's own: of a bone that Unity gives two
// degrees of freedom two components of its turn are kept, of one with three all of them; Unity's formulas are not public.
using System;
using System.Collections.Generic;
using System.Linq;

namespace UnityEngine
{
    public class ScriptableObject : Object
    {
        public static T CreateInstance<T>() where T : ScriptableObject, new() => new T();
    }

    public struct Keyframe
    {
        public Keyframe(float time, float value) => (this.time, this.value) = (time, value);

        public float time { get; set; }

        public float value { get; set; }
    }

    public class AnimationCurve
    {
        readonly List<Keyframe> _keys = new List<Keyframe>();

        public int length => _keys.Count;

        public Keyframe this[int index] => _keys[index];

        public int AddKey(Keyframe key)
        {
            _keys.Add(key);
            return _keys.Count - 1;
        }

        public float Evaluate(float time)
        {
            int next = _keys.FindIndex(key => key.time >= time);
            if (next < 0) return _keys[_keys.Count - 1].value;
            if (next == 0) return _keys[0].value;
            var (a, b) = (_keys[next - 1], _keys[next]);
            return a.value + (b.value - a.value) * (time - a.time) / (b.time - a.time);
        }
    }

    public class Motion : Object
    {
    }

    public class AnimationClip : Motion
    {
        public float frameRate { get; set; } = 60;

        /// <summary>Not Unity's: what AnimationUtility was given.</summary>
        public Dictionary<(string path, Type type, string property), AnimationCurve> Curves { get; } =
            new Dictionary<(string, Type, string), AnimationCurve>();

        /// <summary>Not Unity's either.</summary>
        public object Settings { get; set; }

        public void EnsureQuaternionContinuity()
        {
        }
    }

    public struct HumanPose
    {
        public Vector3 bodyPosition;
        public Quaternion bodyRotation;
        public float[] muscles;
    }

    public static class HumanTrait
    {
        static readonly (HumanBodyBones bone, string[] muscles)[] Table =
        {
            (HumanBodyBones.Spine, Three("Spine")), (HumanBodyBones.Chest, Three("Chest")),
            (HumanBodyBones.UpperChest, Three("UpperChest")), (HumanBodyBones.Neck, Head("Neck")),
            (HumanBodyBones.Head, Head("Head")),
            (HumanBodyBones.LeftEye, new[] { "Left Eye Down-Up", "Left Eye In-Out" }),
            (HumanBodyBones.RightEye, new[] { "Right Eye Down-Up", "Right Eye In-Out" }),
            (HumanBodyBones.Jaw, new[] { "Jaw Close", "Jaw Left-Right" }),
            (HumanBodyBones.LeftUpperLeg, Leg("Left")), (HumanBodyBones.LeftLowerLeg, Knee("Left")),
            (HumanBodyBones.LeftFoot, Foot("Left")), (HumanBodyBones.LeftToes, new[] { "Left Toes Up-Down" }),
            (HumanBodyBones.RightUpperLeg, Leg("Right")), (HumanBodyBones.RightLowerLeg, Knee("Right")),
            (HumanBodyBones.RightFoot, Foot("Right")), (HumanBodyBones.RightToes, new[] { "Right Toes Up-Down" }),
            (HumanBodyBones.LeftShoulder, Shoulder("Left")), (HumanBodyBones.LeftUpperArm, Arm("Left")),
            (HumanBodyBones.LeftLowerArm, Forearm("Left")), (HumanBodyBones.LeftHand, Hand("Left")),
            (HumanBodyBones.RightShoulder, Shoulder("Right")), (HumanBodyBones.RightUpperArm, Arm("Right")),
            (HumanBodyBones.RightLowerArm, Forearm("Right")), (HumanBodyBones.RightHand, Hand("Right")),
        };

        public static string[] MuscleName { get; } = Table.SelectMany(row => row.muscles)
            .Concat(Enumerable.Range(0, 40).Select(i => $"Finger {i}")).ToArray();

        public static int MuscleCount => MuscleName.Length;

        public static string[] BoneName { get; } =
            Enumerable.Range(0, 55).Select(i => ((HumanBodyBones)i).ToString()).ToArray();

        public static int BoneFromMuscle(int muscle)
        {
            foreach (var (bone, muscles) in Table)
                if ((muscle -= muscles.Length) < 0) return (int)bone;
            return (int)HumanBodyBones.LeftThumbProximal;
        }

        internal static IEnumerable<(HumanBodyBones bone, int numMuscles)> Rows =>
            Table.Select(row => (row.bone, row.muscles.Length));

        static string[] Three(string name) =>
            new[] { $"{name} Front-Back", $"{name} Left-Right", $"{name} Twist Left-Right" };

        static string[] Head(string name) =>
            new[] { $"{name} Nod Down-Up", $"{name} Tilt Left-Right", $"{name} Turn Left-Right" };

        static string[] Leg(string side) => new[]
        {
            $"{side} Upper Leg Front-Back", $"{side} Upper Leg In-Out", $"{side} Upper Leg Twist In-Out",
        };

        static string[] Knee(string side) =>
            new[] { $"{side} Lower Leg Stretch", $"{side} Lower Leg Twist In-Out" };

        static string[] Foot(string side) => new[] { $"{side} Foot Up-Down", $"{side} Foot Twist In-Out" };

        static string[] Shoulder(string side) => new[] { $"{side} Shoulder Down-Up", $"{side} Shoulder Front-Back" };

        static string[] Arm(string side) =>
            new[] { $"{side} Arm Down-Up", $"{side} Arm Front-Back", $"{side} Arm Twist In-Out" };

        static string[] Forearm(string side) => new[] { $"{side} Forearm Stretch", $"{side} Forearm Twist In-Out" };

        static string[] Hand(string side) => new[] { $"{side} Hand Down-Up", $"{side} Hand In-Out" };
    }

    public class HumanPoseHandler : IDisposable
    {
        const float FullTurn = 180;

        readonly Transform _root;
        readonly Dictionary<HumanBodyBones, (Transform bone, Transform parent, Quaternion rest)> _bones =
            new Dictionary<HumanBodyBones, (Transform, Transform, Quaternion)>();
        readonly Quaternion _restHips;
        readonly Vector3 _restHipsPosition;
        readonly Transform _hips;

        public HumanPoseHandler(Avatar avatar, Transform root)
        {
            _root = root;
            var description = avatar.humanDescription;
            var rest = new Dictionary<string, SkeletonBone>();
            foreach (var bone in description.skeleton) rest[bone.name] = bone;
            var found = new Dictionary<string, (Transform bone, Quaternion world, Vector3 position)>();
            Collect(root, Quaternion.identity, Vector3.zero, 1, rest, found, true);
            foreach (var entry in description.human)
            {
                var bone = (HumanBodyBones)Array.IndexOf(HumanTrait.BoneName, entry.humanName);
                var (transform, world, position) = found[entry.boneName];
                if (bone == HumanBodyBones.Hips) (_hips, _restHips, _restHipsPosition) = (transform, world, position);
                _bones[bone] = (transform, transform.parent, world);
            }
            Rest = found;
        }

        Dictionary<string, (Transform bone, Quaternion world, Vector3 position)> Rest { get; }

        float HumanScale => _restHipsPosition.y;

        public void GetHumanPose(ref HumanPose pose)
        {
            pose.muscles ??= new float[HumanTrait.MuscleCount];
            var world = Quaternion.Inverse(_root.rotation);
            pose.bodyRotation = _hips.rotation * Quaternion.Inverse(_restHips);
            pose.bodyPosition = _hips.position * (1 / HumanScale);
            int muscle = 0;
            foreach (var (bone, num) in HumanTrait.Rows)
            {
                if (_bones.TryGetValue(bone, out var entry))
                {
                    var turn = Turned(entry.parent);
                    var own = world * entry.bone.rotation * Quaternion.Inverse(entry.rest);
                    var vector = ToVector(Quaternion.Inverse(turn) * own);
                    var parts = new[] { vector.x, vector.y, vector.z };
                    for (int i = 0; i < num; i++) pose.muscles[muscle + i] = parts[i] / FullTurn;
                }
                muscle += num;
            }
        }

        public void SetHumanPose(ref HumanPose pose)
        {
            _hips.rotation = pose.bodyRotation * _restHips;
            _hips.position = pose.bodyPosition * HumanScale;
            var values = new Dictionary<HumanBodyBones, Vector3>();
            int muscle = 0;
            foreach (var (bone, num) in HumanTrait.Rows)
            {
                var parts = new float[3];
                for (int i = 0; i < num; i++) parts[i] = pose.muscles[muscle + i] * FullTurn;
                values[bone] = new Vector3(parts[0], parts[1], parts[2]);
                muscle += num;
            }
            Set(_hips, values);
        }

        public void Dispose()
        {
        }

        void Set(Transform parent, Dictionary<HumanBodyBones, Vector3> values)
        {
            for (int i = 0; i < parent.childCount; i++)
            {
                var child = parent.GetChild(i);
                foreach (var pair in _bones)
                    if (pair.Value.bone == child && values.TryGetValue(pair.Key, out var vector))
                        child.rotation = _root.rotation * Turned(parent) * FromVector(vector) * pair.Value.rest;
                Set(child, values);
            }
        }

        // How far a transform has turned since the T-pose, in the character's space.
        Quaternion Turned(Transform bone) => Rest.TryGetValue(bone.name, out var rest)
            ? Quaternion.Inverse(_root.rotation) * bone.rotation * Quaternion.Inverse(rest.world)
            : Quaternion.identity;

        static void Collect(Transform bone, Quaternion world, Vector3 position, float scale,
            Dictionary<string, SkeletonBone> rest, Dictionary<string, (Transform, Quaternion, Vector3)> found, bool root)
        {
            if (!root && rest.TryGetValue(bone.name, out var entry))
            {
                position += world * entry.position * scale;
                world = world * entry.rotation;
                scale *= entry.scale.x;
                found[bone.name] = (bone, world, position);
            }
            for (int i = 0; i < bone.childCount; i++)
                Collect(bone.GetChild(i), world, position, scale, rest, found, false);
        }

        static Vector3 ToVector(Quaternion q)
        {
            if (q.w < 0) q = new Quaternion(-q.x, -q.y, -q.z, -q.w);
            var axis = new Vector3(q.x, q.y, q.z);
            float sin = axis.magnitude;
            return sin < 1e-8f ? axis * (2 * Mathf.Rad2Deg)
                : axis * (2 * Mathf.Atan2(sin, q.w) * Mathf.Rad2Deg / sin);
        }

        static Quaternion FromVector(Vector3 v) =>
            v.magnitude < 1e-6f ? Quaternion.identity : Quaternion.AngleAxis(v.magnitude, v);
    }
}
