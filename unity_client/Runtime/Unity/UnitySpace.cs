using UnityEngine;
using Wire = System.Numerics;

namespace MotionR1
{
    /// <summary>From the wire's space to Unity's, and the only place that knows the difference: the wire is
    /// right-handed and +X is the character's left, Unity is left-handed and +X is its right. So X is mirrored; both
    /// face +Z.</summary>
    public static class UnitySpace
    {
        /// <summary>Mirrors a position, or a direction.</summary>
        public static Vector3 Position(Wire.Vector3 p) => new Vector3(-p.X, p.Y, p.Z);

        /// <summary>Mirrors a rotation: it turns mirrored vectors into mirrored vectors.</summary>
        public static Quaternion Rotation(Wire.Quaternion q) => new Quaternion(q.X, -q.Y, -q.Z, q.W);
    }
}
