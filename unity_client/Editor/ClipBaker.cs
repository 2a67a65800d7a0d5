using System;
using System.Collections.Generic;
using MotionR1.Core;
using UnityEditor;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>How a clip is baked.</summary>
    public struct BakeOptions
    {
        /// <summary>The clip repeats, and Unity matches its ends.</summary>
        public bool Loop { get; set; }

        /// <summary>The way over the floor is left out.</summary>
        public bool InPlace { get; set; }
    }

    /// <summary>Makes AnimationClips of motions: humanoid, as muscles that any humanoid understands, or generic, as the
    /// rotations of one rig's own bones.</summary>
    public static class ClipBaker
    {
        static readonly string[] BodyPosition = { "RootT.x", "RootT.y", "RootT.z" };
        static readonly string[] BodyRotation = { "RootQ.x", "RootQ.y", "RootQ.z", "RootQ.w" };
        static readonly string[] LocalPosition = { "m_LocalPosition.x", "m_LocalPosition.y", "m_LocalPosition.z" };
        static readonly string[] LocalRotation =
        {
            "m_LocalRotation.x", "m_LocalRotation.y", "m_LocalRotation.z", "m_LocalRotation.w",
        };

        /// <summary>Bakes muscles and the body's place, on a hidden figure of the wire's own proportions.</summary>
        public static AnimationClip Humanoid(RecordedMotion motion, BakeOptions options)
        {
            var curves = new Curves(motion.Header.Model.FrameRateHz);
            using var figure = new Figure(motion.Header.Model.Skeleton);
            using var handler = new HumanPoseHandler(figure.Animator.avatar, figure.Object.transform);
            var pose = new HumanPose();
            EachFrame(motion, (index, frame) =>
            {
                figure.Pose(frame, options.InPlace);
                handler.GetHumanPose(ref pose);
                curves.Add("", typeof(Animator), BodyPosition, index, pose.bodyPosition);
                curves.Add("", typeof(Animator), BodyRotation, index, pose.bodyRotation);
                for (int muscle = 0; muscle < pose.muscles.Length; muscle++)
                    if (IsOfTheBody(muscle))
                        curves.Add("", typeof(Animator), HumanTrait.MuscleName[muscle], index, pose.muscles[muscle]);
            });
            return curves.ToClip(options);
        }

        /// <summary>Bakes the local rotations of a rig's bones, the hips' place, and the root's way. The rig is put back
        /// as it was.</summary>
        public static AnimationClip Generic(RecordedMotion motion, Animator rig, BakeOptions options)
        {
            var curves = new Curves(motion.Header.Model.FrameRateHz);
            var skeleton = motion.Header.Model.Skeleton;
            using var before = new PoseSnapshot(rig.transform);
            var retargeter = new HumanoidRetargeter(rig, skeleton) { LockFeet = false };
            retargeter.RootMotion.Mode = options.InPlace ? RootMotionMode.InPlace : RootMotionMode.Follow;
            var (root, hips) = (rig.transform, rig.GetBoneTransform(HumanBodyBones.Hips));
            var bones = new List<(Transform bone, string path)>();
            foreach (string joint in skeleton.JointNames)
                if (HumanoidBones.TryFind(joint, out var bone) && rig.GetBoneTransform(bone) is { } found)
                    bones.Add((found, PathOf(found, root)));
            // A clip begins at the origin, wherever in the scene the rig stands.
            (root.localPosition, root.localRotation) = (Vector3.zero, Quaternion.identity);
            EachFrame(motion, (index, frame) =>
            {
                retargeter.Apply(frame, 0);
                curves.Add("", typeof(Transform), LocalPosition, index, root.localPosition);
                curves.Add("", typeof(Transform), LocalRotation, index, root.localRotation);
                curves.Add(PathOf(hips, root), typeof(Transform), LocalPosition, index, hips.localPosition);
                foreach (var (bone, path) in bones)
                    curves.Add(path, typeof(Transform), LocalRotation, index, bone.localRotation);
            });
            return curves.ToClip(options);
        }

        /// <summary>Where a bone is below the root, as clips name it.</summary>
        public static string PathOf(Transform bone, Transform root)
        {
            string path = bone.name;
            for (var parent = bone.parent; parent != root && parent != null; parent = parent.parent)
                path = parent.name + "/" + path;
            return path;
        }

        // Fingers, eyes and jaw are nobody's business here: a clip without them leaves them alone.
        static bool IsOfTheBody(int muscle)
        {
            var bone = (HumanBodyBones)HumanTrait.BoneFromMuscle(muscle);
            return bone <= HumanBodyBones.RightToes || bone == HumanBodyBones.UpperChest;
        }

        static void EachFrame(RecordedMotion motion, Action<int, MotionFrame> bake)
        {
            if (motion.NumFrames == 0) throw new ArgumentException("the motion has no frames");
            var frame = new MotionFrame(motion.Header.Model.Skeleton.Parents.Count);
            for (int index = 0; index < motion.NumFrames; index++)
            {
                motion.ReadFrame(index, frame);
                bake(index, frame);
            }
        }

        sealed class Curves
        {
            readonly Dictionary<(string path, Type type, string property), AnimationCurve> _curves =
                new Dictionary<(string, Type, string), AnimationCurve>();
            readonly float _rateHz;

            public Curves(float rateHz) => _rateHz = rateHz;

            public void Add(string path, Type type, string property, int frame, float value)
            {
                var key = (path, type, property);
                if (!_curves.TryGetValue(key, out var curve)) _curves[key] = curve = new AnimationCurve();
                curve.AddKey(new Keyframe(frame / _rateHz, value));
            }

            public void Add(string path, Type type, string[] properties, int frame, Vector3 value)
            {
                Add(path, type, properties[0], frame, value.x);
                Add(path, type, properties[1], frame, value.y);
                Add(path, type, properties[2], frame, value.z);
            }

            public void Add(string path, Type type, string[] properties, int frame, Quaternion value)
            {
                // q and -q are one turn, but curves between them are not: keep to the side of the frame before.
                if (frame > 0)
                {
                    var before = new Quaternion(Last(path, type, properties[0]), Last(path, type, properties[1]),
                        Last(path, type, properties[2]), Last(path, type, properties[3]));
                    if (Quaternion.Dot(before, value) < 0)
                        value = new Quaternion(-value.x, -value.y, -value.z, -value.w);
                }
                Add(path, type, properties[0], frame, value.x);
                Add(path, type, properties[1], frame, value.y);
                Add(path, type, properties[2], frame, value.z);
                Add(path, type, properties[3], frame, value.w);
            }

            public AnimationClip ToClip(BakeOptions options)
            {
                var clip = new AnimationClip { frameRate = _rateHz };
                foreach (var entry in _curves)
                {
                    for (int key = 0; key < entry.Value.length; key++)
                    {
                        AnimationUtility.SetKeyLeftTangentMode(entry.Value, key, AnimationUtility.TangentMode.Linear);
                        AnimationUtility.SetKeyRightTangentMode(entry.Value, key, AnimationUtility.TangentMode.Linear);
                    }
                    var (path, type, property) = entry.Key;
                    var binding = EditorCurveBinding.FloatCurve(path, type, property);
                    AnimationUtility.SetEditorCurve(clip, binding, entry.Value);
                }
                clip.EnsureQuaternionContinuity();
                var settings = AnimationUtility.GetAnimationClipSettings(clip);
                (settings.loopTime, settings.loopBlend) = (options.Loop, options.Loop);
                AnimationUtility.SetAnimationClipSettings(clip, settings);
                return clip;
            }

            float Last(string path, Type type, string property)
            {
                var curve = _curves[(path, type, property)];
                return curve[curve.length - 1].value;
            }
        }
    }
}
