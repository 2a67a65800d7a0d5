using System;
using System.Collections.Generic;
using System.Linq;
using MotionR1.Core;
using NUnit.Framework;
using UnityEngine;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    /// <summary>A walk whose feet stand still on the wire's body, on rigs with legs of other proportions.</summary>
    public class FootLockTests
    {
        const float TickS = 1 / 60f, StepS = 0.4f, SpeedM = 0.9f;
        const float HipsM = 0.92f, AnkleM = 0.05f, Thigh = 0.39f, Shin = 0.43f;

        [TestCase(1.25f, 0.8f)]
        [TestCase(0.8f, 1.25f)]
        [TestCase(1.1f, 0.95f)]
        [TestCase(0.85f, 0.9f)]
        public void StandingFeetSlideAtMostAQuarterOfWhatTheyDidWithout(float thigh, float shin)
        {
            float with = Slide(thigh, shin, true), without = Slide(thigh, shin, false);
            TestContext.WriteLine($"thigh x{thigh}, shin x{shin}: {without * 100:0.0} cm/s, locked {with * 100:0.00} cm/s");
            Assert.That(without, Is.GreaterThan(0.01), "there is something to correct");
            Assert.That(with, Is.LessThanOrEqualTo(0.25 * without));
        }

        [Test]
        public void NoFootJumpsWhereContactsBeginAndEnd()
        {
            var (rig, retargeter) = Walker(1.25f, 0.8f, new System.Random(3));
            using (rig)
            {
                var foot = rig.Joints[Array.IndexOf(Rig.Names, "l_ankle")];
                var before = foot.position;
                for (float timeS = 0; timeS < 6; timeS += TickS)
                {
                    retargeter.Apply(Frame(timeS), TickS);
                    float speedM = (foot.position - before).magnitude / TickS / rig.Root.localScale.x;
                    // A swinging foot goes twice as fast as the body, and up and down; a jump would be far beyond.
                    if (timeS > 0) Assert.That(speedM, Is.LessThan(4 * SpeedM), $"at {timeS} s");
                    before = foot.position;
                }
            }
        }

        [Test]
        public void AMotionThatBeginsLaterKnowsNothingOfWhereFeetStood()
        {
            var ankles = new[] { true, false }.Select(locks =>
            {
                var (rig, retargeter) = Walker(1.25f, 0.8f, new System.Random(3));
                using (rig)
                {
                    retargeter.LockFeet = locks;
                    for (float timeS = 0; timeS < 0.3f; timeS += TickS) retargeter.Apply(Frame(timeS), TickS);
                    retargeter.EndMotion();
                    foreach (var bone in rig.Joints)
                        if (bone != null) bone.localRotation = Quaternion.identity;  // the Animator's own pose
                    retargeter.BeginMotion();
                    var swing = Frame(0);
                    swing.Contacts = FootContacts.None;
                    retargeter.Apply(swing, TickS);
                    return rig.Root.InverseTransformPoint(Leg(rig, "l_ankle").position);
                }
            }).ToArray();
            Near.AssertEqual(ankles[0], ankles[1]);
        }

        [Test]
        public void ALiftTakesStandingFeetAlong()
        {
            var (rig, retargeter) = Walker(1, 1, new System.Random(4));
            using (rig)
            {
                var stand = Frame(0);
                stand.Contacts = (FootContacts)15;
                retargeter.Apply(stand, TickS);
                var foot = rig.Joints[Array.IndexOf(Rig.Names, "l_ankle")];
                var start = foot.position;
                for (int i = 1; i <= 60; i++)
                {
                    rig.Root.position += new Vector3(0.05f, 0.05f, 0);
                    retargeter.Apply(stand, TickS);
                    Near.AssertEqual(foot.position, start + new Vector3(0.05f, 0.05f, 0) * i);
                }
            }
        }

        [Test]
        public void InPlaceTheFloorMovesAndFeetAreFree()
        {
            float free = Slide(1.25f, 0.8f, false, RootMotionMode.InPlace);
            Assert.That(Slide(1.25f, 0.8f, true, RootMotionMode.InPlace), Is.EqualTo(free).Within(1e-6));
        }

        [Test]
        public void TheLimbReachesWhatItCanReach()
        {
            var random = new System.Random(5);
            for (int i = 0; i < 100; i++)
            {
                using var rig = new RandomRig(random, aPose: false);
                var (upper, lower, end) = (Leg(rig, "l_hip"), Leg(rig, "l_knee"), Leg(rig, "l_ankle"));
                float longest = (lower.position - upper.position).magnitude + (end.position - lower.position).magnitude;
                var (rotation, target) = (end.rotation, upper.position + Rig.Point(random).normalized * longest * 0.8f);
                TwoBoneIk.Reach(upper, lower, end, target, rig.Root.rotation * Vector3.left);
                float shortest = Math.Abs((lower.position - upper.position).magnitude -
                    (end.position - lower.position).magnitude);
                if (shortest < 0.8f * longest)
                    Assert.That((end.position - target).magnitude, Is.LessThan(2e-3f * longest));
                Near.AssertEqual(end.rotation, rotation, "the foot keeps its turn");
            }
        }

        static Transform Leg(RandomRig rig, string name) => rig.Joints[Array.IndexOf(Rig.Names, name)];

        // Mean horizontal speed of ankles in contact, for a rig of the wire's size.
        static float Slide(float thigh, float shin, bool locked, RootMotionMode mode = RootMotionMode.Follow)
        {
            var (rig, retargeter) = Walker(thigh, shin, new System.Random(2));
            using (rig)
            {
                (retargeter.LockFeet, retargeter.RootMotion.Mode) = (locked, mode);
                var feet = new[] { Leg(rig, "l_ankle"), Leg(rig, "r_ankle") };
                var contacts = new[] { FootContacts.LeftAnkle, FootContacts.RightAnkle };
                var before = new Vector3[2];
                var last = FootContacts.None;
                float sumM = 0;
                int num = 0;
                for (float timeS = 0; timeS < 8; timeS += TickS)
                {
                    var frame = Frame(timeS);
                    retargeter.Apply(frame, TickS);
                    for (int i = 0; i < 2; i++)
                    {
                        if ((frame.Contacts & last & contacts[i]) != 0)
                        {
                            var step = Quaternion.Inverse(rig.Root.rotation) * (feet[i].position - before[i]);
                            sumM += new Vector3(step.x, 0, step.z).magnitude / rig.Root.localScale.x;
                            num++;
                        }
                        before[i] = feet[i].position;
                    }
                    last = frame.Contacts;
                }
                return sumM / num / TickS;
            }
        }

        static (RandomRig, HumanoidRetargeter) Walker(float thigh, float shin, System.Random random)
        {
            var lengths = new Dictionary<string, float> { ["knee"] = thigh, ["ankle"] = shin };
            var rig = new RandomRig(random, false, name => lengths.TryGetValue(name, out float by) ? by : 1);
            return (rig, new HumanoidRetargeter(rig.Animator, Rig.Skeleton()));
        }

        // Walks along +Z. Each foot stands for a step while the other swings, heel and toes level.
        static MotionFrame Frame(float timeS)
        {
            var frame = new MotionFrame(Rig.Names.Length)
            {
                RootPositionM = new Wire.Vector3(0, HipsM, SpeedM * timeS),
            };
            for (int side = 0; side < 2; side++)
            {
                float phase = timeS / StepS + side;
                int cycle = (int)Math.Floor(phase / 2);
                float within = phase - 2 * cycle;  // 0 to 1 stands, 1 to 2 swings
                float standsAt = SpeedM * StepS * (2 * cycle - side + 0.5f);
                float share = Math.Max(0, within - 1);
                float eased = share * share * (3 - 2 * share);
                float z = standsAt + 2 * SpeedM * StepS * eased - SpeedM * timeS;
                float y = AnkleM + 0.08f * (float)Math.Sin(Math.PI * share) - (HipsM - 0.09f);
                float length = (float)Math.Sqrt(y * y + z * z);
                float chord = (float)Math.Atan2(z, -y);
                float bend = (float)Math.Acos((Thigh * Thigh + length * length - Shin * Shin) / (2 * Thigh * length));
                float thigh = chord + bend;
                var knee = (z: Thigh * (float)Math.Sin(thigh), y: -Thigh * (float)Math.Cos(thigh));
                float shin = (float)Math.Atan2(z - knee.z, -(y - knee.y));
                // About +X, which in the wire's space turns what hangs down backwards.
                frame.JointRotations[1 + side] = Turn(-thigh);
                frame.JointRotations[4 + side] = Turn(thigh - shin);
                frame.JointRotations[7 + side] = Turn(shin);
                if (within < 1)
                    frame.Contacts |= side == 0
                        ? FootContacts.LeftAnkle | FootContacts.LeftFoot
                        : FootContacts.RightAnkle | FootContacts.RightFoot;
            }
            return frame;
        }

        static Wire.Quaternion Turn(float radians) =>
            Wire.Quaternion.CreateFromAxisAngle(Wire.Vector3.UnitX, radians);
    }
}
