using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;
using UnityEngine;

namespace MotionR1.Tests
{
    /// <summary>The documentation's picture of one motion on several rigs: streamed from the real bridge, posed by the real
    /// retargeter.</summary>
    public class DrawingTests
    {
        internal const string Folder = "MOTION_R1_DRAWING_FOLDER";

        [SetUp]
        public void NeedABridge() => NativeGrpcTests.RequireAddresses();

        [Test]
        public void OneMotionOnFourRigs()
        {
            const int numPoses = 7;
            const float step = 96, height = 216;
            var motion = MotionClientTests.Wait(async () =>
            {
                using var client = new MotionClient(NativeGrpcTests.Web());
                var request = new StreamMotionRequest { Prompt = "a person walks forward and waves", Seed = 1 };
                var recorded = new RecordedMotion();
                await foreach (var next in client.StreamMotionAsync(request, TimeSpan.FromSeconds(60)))
                    recorded.Add(next);
                return recorded;
            });
            var rigs = new (string name, Func<string, float> length, bool aPose)[]
            {
                ("the wire's own body", _ => 1, false),
                ("long legs", bone => bone == "knee" || bone == "ankle" ? 1.35f : 1, false),
                ("short legs, long arms", bone => bone == "knee" || bone == "ankle" ? 0.7f :
                    bone == "elbow" || bone == "wrist" ? 1.3f : 1, false),
                ("bound in an A-pose", _ => 1, true),
            };
            var drawing = new Drawing(numPoses * step + 40, rigs.Length * height + 10, "#ffffff");
            for (int i = 0; i < rigs.Length; i++)
            {
                var random = new System.Random(4);
                using var rig = new RandomRig(random, rigs[i].aPose, rigs[i].length);
                (rig.Root.position, rig.Root.rotation) = (Vector3.zero, Quaternion.identity);
                float size = rig.Root.localScale.x;
                var retargeter = new HumanoidRetargeter(rig.Animator, motion.Header.Model.Skeleton);
                var frame = new MotionFrame(Rig.Names.Length);
                float floor = (i + 1) * height - 14;
                drawing.Text(rigs[i].name, 12, floor - height + 30, "#445566");
                drawing.Stroke(12, floor, numPoses * step + 28, floor, "#ccd3da", 1);
                for (int pose = 0, at = 0; pose < numPoses; pose++)
                {
                    int until = (motion.NumFrames - 1) * pose / (numPoses - 1);
                    for (; at <= until; at++)
                    {
                        motion.ReadFrame(at, frame);
                        retargeter.Apply(frame, 1 / motion.Header.Model.FrameRateHz);
                    }
                    float x = 30 + step * (pose + 0.4f);
                    (float x, float y) OnPaper(Vector3 point)
                    {
                        // From the character's left and a little from the front; it stays in the middle.
                        var seen = Quaternion.AngleAxis(-60, Vector3.up) *
                            (Quaternion.Inverse(rig.Root.rotation) * (point - rig.Root.position) * (1 / size));
                        return (x - seen.x * 90, floor - seen.y * 90);
                    }
                    foreach (var (from, to, stands) in Bones(rig, frame.Contacts))
                    {
                        var (a, b) = (OnPaper(from), OnPaper(to));
                        drawing.Stroke(a.x, a.y, b.x, b.y, stands ? "#2f9e44" : "#3b4754", 3);
                    }
                }
            }
            string folder = Environment.GetEnvironmentVariable(Folder);
            if (string.IsNullOrEmpty(folder)) Assert.Ignore($"{Folder} is not set: pytest sets it");
            drawing.Save(Path.Combine(folder, "rigs.svg"));
        }

        static IEnumerable<(Vector3 from, Vector3 to, bool stands)> Bones(RandomRig rig, FootContacts contacts)
        {
            for (int joint = 1; joint < Rig.Names.Length; joint++)
            {
                if (rig.Joints[joint] == null) continue;
                int parent = Rig.Parents[joint];
                while (rig.Joints[parent] == null) parent = Rig.Parents[parent];
                var contact = Rig.Names[joint] switch
                {
                    "l_foot" => FootContacts.LeftAnkle | FootContacts.LeftFoot,
                    "r_foot" => FootContacts.RightAnkle | FootContacts.RightFoot,
                    _ => FootContacts.None,
                };
                yield return (rig.Joints[parent].position, rig.Joints[joint].position, (contacts & contact) != 0);
            }
        }
    }
}
