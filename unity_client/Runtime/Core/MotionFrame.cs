using System;
using System.Numerics;

namespace MotionR1.Core
{
    /// <summary>Which parts of the feet are on the ground.</summary>
    [Flags]
    public enum FootContacts : byte
    {
        /// <summary>None.</summary>
        None = 0,
        /// <summary>The left ankle.</summary>
        LeftAnkle = 1 << 0,
        /// <summary>The left foot.</summary>
        LeftFoot = 1 << 1,
        /// <summary>The right ankle.</summary>
        RightAnkle = 1 << 2,
        /// <summary>The right foot.</summary>
        RightFoot = 1 << 3,
    }

    /// <summary>One pose, in the wire's space: right-handed, +Y up, facing +Z, +X is the character's left.</summary>
    public sealed class MotionFrame
    {
        /// <summary>A pose of so many joints, all at rest.</summary>
        public MotionFrame(int numJoints)
        {
            JointRotations = new Quaternion[numJoints];
            Array.Fill(JointRotations, Quaternion.Identity);
        }

        /// <summary>Where the root is, metres.</summary>
        public Vector3 RootPositionM { get; set; }

        /// <summary>One rotation a joint, relative to its parent.</summary>
        public Quaternion[] JointRotations { get; }

        /// <summary>Feet on the ground.</summary>
        public FootContacts Contacts { get; set; }
    }
}
