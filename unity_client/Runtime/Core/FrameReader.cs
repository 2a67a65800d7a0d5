using System;
using System.Numerics;
using System.Runtime.InteropServices;
using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>Turns the bytes of chunks into positions and rotations. What does not fit the header is a
    /// <see cref="WireFormatException"/>.</summary>
    public sealed class FrameReader
    {
        const int VectorBytes = 3 * sizeof(float);
        const int QuaternionBytes = 4 * sizeof(float);

        // Buffers are sized by what the header says, so it must make sense.
        const int MaxFramesPerCode = 1000;

        /// <summary>Frames a second, at most.</summary>
        public const float MaxFrameRateHz = 1000;

        /// <summary>Checks the header: a tree of joints whose parents come first, and
        /// how many frames there are in a second and in a code.</summary>
        public FrameReader(StreamHeader header)
        {
            var model = header.Model ?? throw new WireFormatException("the header names no model");
            var skeleton = model.Skeleton ?? throw new WireFormatException("the header holds no skeleton");
            NumJoints = skeleton.Parents.Count;
            if (NumJoints == 0 || skeleton.JointNames.Count != NumJoints ||
                skeleton.RestOffsetsM.Length != NumJoints * VectorBytes)
                throw new WireFormatException($"skeleton: {NumJoints} parents, {skeleton.JointNames.Count} names and " +
                    $"{skeleton.RestOffsetsM.Length} bytes of offsets do not fit each other");
            for (int joint = 0; joint < NumJoints; joint++)
            {
                int parent = skeleton.Parents[joint];
                if (joint == 0 ? parent != -1 : parent < 0 || parent >= joint)
                    throw new WireFormatException($"skeleton: joint {joint} has parent {parent}; parents come first");
            }
            FrameRateHz = model.FrameRateHz;
            if (!(FrameRateHz > 0 && FrameRateHz <= MaxFrameRateHz))
                throw new WireFormatException($"expected a frame rate up to {MaxFrameRateHz} Hz, got {FrameRateHz}");
            FramesPerCode = model.FramesPerCode;
            if (FramesPerCode < 1 || FramesPerCode > MaxFramesPerCode)
                throw new WireFormatException($"expected 1 to {MaxFramesPerCode} frames a code, got {FramesPerCode}");
        }

        /// <summary>Joints of the skeleton.</summary>
        public int NumJoints { get; }

        /// <summary>Frames a second.</summary>
        public float FrameRateHz { get; }

        /// <summary>Frames that one code becomes.</summary>
        public int FramesPerCode { get; }

        /// <summary>Reads the T-pose offsets of a skeleton, metres, relative to the parent.</summary>
        public static Vector3[] RestOffsetsM(Skeleton skeleton) =>
            MemoryMarshal.Cast<byte, Vector3>(skeleton.RestOffsetsM).ToArray();

        /// <summary>Counts the frames of a chunk, once all its lengths and numbers make sense.</summary>
        public int NumFrames(FrameChunk chunk)
        {
            int numFrames = chunk.Contacts.Length;
            if (numFrames == 0 || chunk.RootPositionsM.Length != (long)numFrames * VectorBytes ||
                chunk.JointRotations.Length != (long)numFrames * NumJoints * QuaternionBytes)
                throw new WireFormatException($"chunk at frame {chunk.FirstFrame}: {chunk.RootPositionsM.Length} " +
                    $"bytes of positions, {chunk.JointRotations.Length} of rotations and {numFrames} of contacts " +
                    $"do not fit {NumJoints} joints");
            RequireFinite(chunk, chunk.RootPositionsM);
            RequireFinite(chunk, chunk.JointRotations);
            return numFrames;
        }

        /// <summary>Copies one frame of a chunk that <see cref="NumFrames"/> has checked.</summary>
        public void Copy(FrameChunk chunk, int frame, out Vector3 rootPositionM, Span<Quaternion> jointRotations,
            out FootContacts contacts)
        {
            // Every platform that Unity builds for is little-endian, as the wire is.
            rootPositionM = MemoryMarshal.Cast<byte, Vector3>(chunk.RootPositionsM)[frame];
            MemoryMarshal.Cast<byte, Quaternion>(chunk.JointRotations).Slice(frame * NumJoints, NumJoints)
                .CopyTo(jointRotations);
            contacts = (FootContacts)chunk.Contacts[frame];
        }

        static void RequireFinite(FrameChunk chunk, byte[] bytes)
        {
            foreach (float number in MemoryMarshal.Cast<byte, float>(bytes))
                if (float.IsNaN(number) || float.IsInfinity(number))
                    throw new WireFormatException(
                        $"chunk at frame {chunk.FirstFrame}: {number} is no position or rotation");
        }
    }
}
