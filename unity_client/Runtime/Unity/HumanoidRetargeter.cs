using System;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Puts frames of a stream on a humanoid rig. Main thread only.</summary>
    public sealed class HumanoidRetargeter
    {
        /// <summary>How long a motion takes to grow out of the pose before it, seconds.</summary>
        public const float BlendS = 0.25f;

        readonly Transform _root;
        readonly HumanoidPose _pose;
        readonly Quaternion[] _local;
        Vector3 _leftPosition;
        Quaternion _leftRotation;
        float _blendLeftS;

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
                if (HumanoidBones.TryFind(skeleton.JointNames[joint], out var bone))
                    bones[joint] = animator.GetBoneTransform(bone);
            if (bones[0] == null)
                throw new InvalidOperationException(
                    $"skeleton {skeleton.Name} begins with '{skeleton.JointNames[0]}'; " +
                    "this client binds 'pelvis' to the hips");

            _root = animator.transform;
            var restHips = new Vector3(0, skeleton.RestRootHeightM, 0);
            using (new TPose(animator, skeleton))
                _pose = new HumanoidPose(_root, bones, skeleton.Parents.ToArray(), restHips);
            RootMotion = new RootMotionDriver(_root, _pose.Scale);
            Feet = new FootLock(animator);
            _local = new Quaternion[bones.Length];
            (_leftPosition, _leftRotation) = (_root.position, _root.rotation);
        }

        /// <summary>Moves the character.</summary>
        public RootMotionDriver RootMotion { get; }

        /// <summary>Keeps its feet where they stand.</summary>
        public FootLock Feet { get; }

        /// <summary>Whether feet are kept where they stand. In place the floor moves, so they never are.</summary>
        public bool LockFeet { get; set; } = true;

        /// <summary>Says that another motion begins: it grows out of the pose on screen, and its first frame is where the
        /// character stands.</summary>
        public void BeginMotion()
        {
            _pose.Keep();
            _blendLeftS = BlendS;
            RootMotion.Restart();
            Feet.Release();
        }

        /// <summary>Leaves the rig to the game.</summary>
        public void EndMotion()
        {
            _pose.Release();
            Feet.Reset();
        }

        /// <summary>Poses the rig and moves the character by what has changed since the last frame. Call it in
        /// LateUpdate: the Animator has written its own pose by then.</summary>
        /// <param name="frame">What the source does.</param>
        /// <param name="deltaS">Time since the last call, seconds.</param>
        /// <param name="idle">Share of the Animator's own pose, 0 to 1.</param>
        public void Apply(MotionFrame frame, float deltaS, float idle = 0)
        {
            Feet.Carry(_leftPosition, _leftRotation);
            for (int joint = 0; joint < _local.Length; joint++)
                _local[joint] = UnitySpace.Rotation(frame.JointRotations[joint]);
            var hips = UnitySpace.Position(frame.RootPositionM);
            RootMotion.Take(ref hips, ref _local[0]);
            (_leftPosition, _leftRotation) = (_root.position, _root.rotation);

            float kept = _blendLeftS / BlendS;
            _blendLeftS = Mathf.Max(0, _blendLeftS - deltaS);
            _pose.Apply(hips, _local, kept * kept * (3 - 2 * kept), idle);
            bool locks = LockFeet && RootMotion.Mode != RootMotionMode.InPlace;
            Feet.Apply(locks ? frame.Contacts : FootContacts.None, deltaS, 1 - idle);
        }
    }
}
