using System;
using System.Linq;
using MotionR1.Core;
using NUnit.Framework;
using UnityEngine;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    public class RetargetingAccuracyTests
    {
        const int NumRigs = 200;
        const float MaxErrorDegrees = 0.1f;

        [Test]
        public void BonesOf200RigsPointWhereTheSourcesPoint()
        {
            var random = new System.Random(11);
            float worst = 0;
            int num = 0;
            for (int i = 0; i < NumRigs; i++)
            {
                using var rig = new RandomRig(random, aPose: i % 2 == 1);
                var retargeter = new HumanoidRetargeter(rig.Animator, Rig.Skeleton());
                for (int frame = 0; frame < 3; frame++)
                {
                    rig.Shake();  // the Animator writes its own pose before
                    var source = RandomFrame(random);
                    retargeter.RootMotion.Restart();
                    retargeter.LockFeet = false;
                    retargeter.Apply(source, 0);
                    // What the root took over of the turn is in the root's rotation already.
                    var local = source.JointRotations.Select(UnitySpace.Rotation).ToArray();
                    var (positions, turned) = Rig.Forward(Rig.RestHips, local);
                    var facing = turned[0] * Vector3.forward;
                    var unturn = Quaternion.AngleAxis(-Mathf.Atan2(facing.x, facing.z) * Mathf.Rad2Deg, Vector3.up);
                    for (int j = 1; j < Rig.Names.Length; j++)
                    {
                        if (!rig.Compares(j)) continue;
                        int parent = Rig.Parents[j];
                        var expected = rig.Root.rotation * unturn * (positions[j] - positions[parent]);
                        var actual = rig.Joints[j].position - rig.Joints[parent].position;
                        float error = Vector3.Angle(expected, actual);
                        Assert.That(error, Is.LessThanOrEqualTo(MaxErrorDegrees), $"rig {i}, {Rig.Names[j]}");
                        worst = Math.Max(worst, error);
                        num++;
                    }
                }
            }
            TestContext.WriteLine($"{num} bones of {NumRigs} rigs: at most {worst:0.0000} degrees off");
        }

        [Test]
        public void FeetOfAnAPoseStandOnTheFloor()
        {
            var random = new System.Random(12);
            for (int i = 0; i < 20; i++)
            {
                // Legs of the wire's own proportions, so that heights compare; everything else as it comes.
                using var rig = new RandomRig(random, aPose: true, length: _ => 1);
                var retargeter = new HumanoidRetargeter(rig.Animator, Rig.Skeleton());
                var stand = new MotionFrame(Rig.Names.Length)
                {
                    RootPositionM = new Wire.Vector3(0, Rig.RestHipsM, 0),
                };
                retargeter.Apply(stand, 0);
                float size = rig.Root.localScale.x;
                foreach (string name in new[] { "l_ankle", "r_ankle" })
                {
                    var ankle = rig.Joints[Array.IndexOf(Rig.Names, name)].position - rig.Root.position;
                    float height = (Quaternion.Inverse(rig.Root.rotation) * ankle).y / size;
                    float drop = 0.82f * (1 - Mathf.Cos(8 * Mathf.Deg2Rad));
                    // The A-pose had them higher by the drop; straight legs push the hips up, not the feet down.
                    Assert.That(height, Is.EqualTo(0.05f + drop).Within(1e-3), name);
                }
            }
        }

        static MotionFrame RandomFrame(System.Random random)
        {
            var frame = new MotionFrame(Rig.Names.Length) { RootPositionM = new Wire.Vector3(0, Rig.RestHipsM, 0) };
            for (int j = 0; j < frame.JointRotations.Length; j++)
            {
                var q = Rig.Turn(random);
                frame.JointRotations[j] = new Wire.Quaternion(q.x, q.y, q.z, q.w);
            }
            // Upright enough to have a facing.
            frame.JointRotations[0] = Wire.Quaternion.CreateFromYawPitchRoll(
                (float)random.NextDouble() * 6, (float)random.NextDouble() - 0.5f, (float)random.NextDouble() - 0.5f);
            return frame;
        }
    }
}
