using System;
using System.Collections.Generic;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>Remembers how an object and all below it stand, and puts them back when it is disposed.</summary>
    public sealed class PoseSnapshot : IDisposable
    {
        readonly List<(Transform bone, Vector3 position, Quaternion rotation)> _pose =
            new List<(Transform, Vector3, Quaternion)>();

        /// <summary>Remembers.</summary>
        public PoseSnapshot(Transform root) => Remember(root);

        /// <summary>Puts everything back that is still there.</summary>
        public void Dispose()
        {
            foreach (var (bone, position, rotation) in _pose)
                if (bone != null) (bone.localPosition, bone.localRotation) = (position, rotation);
            _pose.Clear();
        }

        void Remember(Transform bone)
        {
            _pose.Add((bone, bone.localPosition, bone.localRotation));
            for (int i = 0; i < bone.childCount; i++) Remember(bone.GetChild(i));
        }
    }
}
