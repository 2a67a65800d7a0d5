using System;
using System.Collections.Generic;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using MotionR1.Core;
using MotionR1.Core.V1;

namespace MotionR1.Editor
{
    /// <summary>Reads BVH files as the bridge writes them: metres, the wire's space and joint names. The motion can be
    /// baked like one that was streamed; it has no codes.</summary>
    public static class BvhReader
    {
        /// <summary>Reads a file's text. What it does not know is a <see cref="FormatException"/> with the line.</summary>
        public static RecordedMotion Read(string text)
        {
            var file = new Words(text);
            var skeleton = new Skeleton { Name = "bvh" };
            var offsets = new List<Vector3>();
            var channels = new List<(int joint, string name)>();
            file.Expect("HIERARCHY");
            file.Expect("ROOT");
            ReadJoint(file, -1, skeleton, offsets, channels);
            skeleton.RestOffsetsM = Bytes<Vector3>(offsets.ToArray());
            skeleton.RestRootHeightM = RootHeight(skeleton, offsets);

            file.Expect("MOTION");
            file.Expect("Frames:");
            int numFrames = (int)file.Number();
            file.Expect("Frame");
            file.Expect("Time:");
            float frameS = file.Number();
            float rateHz = 1 / frameS;
            if (numFrames < 1 || !(rateHz > 0 && rateHz <= FrameReader.MaxFrameRateHz))
                throw file.Wrong(FormattableString.Invariant(
                    $"expected frames, up to {FrameReader.MaxFrameRateHz} a second, got {numFrames} of {frameS} s"));
            var motion = new RecordedMotion();
            var model = new Model { Skeleton = skeleton, FrameRateHz = rateHz, FramesPerCode = 1 };
            motion.Add(new MotionEvent { Header = new StreamHeader { Model = model } });
            for (int frame = 0; frame < numFrames; frame++)
                motion.Add(new MotionEvent { Chunk = ReadFrame(file, frame, offsets.Count, channels) });
            motion.Add(new MotionEvent
            {
                Summary = new StreamSummary { NumFrames = numFrames, NumCodes = numFrames, DurationS = numFrames * frameS },
            });
            return motion;
        }

        static void ReadJoint(Words file, int parent, Skeleton skeleton, List<Vector3> offsets,
            List<(int, string)> channels)
        {
            int joint = skeleton.Parents.Count;
            string name = file.Next();
            if (!HumanoidBones.TryFind(name, out _))
                throw file.Wrong($"joint '{name}' is none of the bridge's; only its own BVH files are read");
            skeleton.JointNames.Add(name);
            skeleton.Parents.Add(parent);
            file.Expect("{");
            file.Expect("OFFSET");
            offsets.Add(new Vector3(file.Number(), file.Number(), file.Number()));
            file.Expect("CHANNELS");
            for (int left = (int)file.Number(); left > 0; left--) channels.Add((joint, file.Next()));
            for (string word = file.Next(); word != "}"; word = file.Next())
                if (word == "JOINT")
                    ReadJoint(file, joint, skeleton, offsets, channels);
                else if (word == "End")
                    for (int i = 0; i < 7; i++) file.Next();  // Site { OFFSET x y z }
                else
                    throw file.Wrong($"expected JOINT, End Site or }}, got '{word}'");
        }

        static FrameChunk ReadFrame(Words file, int frame, int numJoints, List<(int joint, string name)> channels)
        {
            var root = Vector3.Zero;
            var rotations = new Quaternion[numJoints];
            Array.Fill(rotations, Quaternion.Identity);
            foreach (var (joint, name) in channels)
            {
                float value = file.Number();
                float radians = value * (float)Math.PI / 180;
                switch (name)
                {
                    case "Xposition": root.X = value; break;
                    case "Yposition": root.Y = value; break;
                    case "Zposition": root.Z = value; break;
                    case "Xrotation": rotations[joint] *= Quaternion.CreateFromAxisAngle(Vector3.UnitX, radians); break;
                    case "Yrotation": rotations[joint] *= Quaternion.CreateFromAxisAngle(Vector3.UnitY, radians); break;
                    case "Zrotation": rotations[joint] *= Quaternion.CreateFromAxisAngle(Vector3.UnitZ, radians); break;
                    default: throw file.Wrong($"channel '{name}'");
                }
            }
            return new FrameChunk
            {
                FirstFrame = frame,
                RootPositionsM = Bytes(new[] { root }),
                JointRotations = Bytes(rotations),
                Contacts = new byte[1],
            };
        }

        // The file does not say it: the lowest joint of the T-pose stands on the floor.
        static float RootHeight(Skeleton skeleton, List<Vector3> offsets)
        {
            var heights = new float[offsets.Count];
            float lowest = 0;
            for (int joint = 1; joint < heights.Length; joint++)
            {
                heights[joint] = heights[skeleton.Parents[joint]] + offsets[joint].Y;
                lowest = Math.Min(lowest, heights[joint]);
            }
            return -lowest;
        }

        static byte[] Bytes<T>(T[] values) where T : struct => MemoryMarshal.AsBytes<T>(values).ToArray();

        sealed class Words
        {
            readonly string[] _lines;
            string[] _words = Array.Empty<string>();
            int _line;
            int _word;

            public Words(string text) => _lines = text.Split('\n');

            public string Next()
            {
                while (_word == _words.Length)
                {
                    if (_line == _lines.Length) throw Wrong("the file ends too early");
                    _words = _lines[_line++].Split((char[])null, StringSplitOptions.RemoveEmptyEntries);
                    _word = 0;
                }
                return _words[_word++];
            }

            public void Expect(string word)
            {
                string next = Next();
                if (next != word) throw Wrong($"expected '{word}', got '{next}'");
            }

            public float Number()
            {
                string word = Next();
                if (float.TryParse(word, NumberStyles.Float, CultureInfo.InvariantCulture, out float number) &&
                    !float.IsNaN(number) && !float.IsInfinity(number)) return number;
                throw Wrong($"expected a number, got '{word}'");
            }

            public FormatException Wrong(string what) => new FormatException($"BVH, line {_line}: {what}");
        }
    }
}
