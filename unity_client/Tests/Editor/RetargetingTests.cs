using System;
using System.Linq;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;
using UnityEngine;
using Object = UnityEngine.Object;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    public class RetargetingTests
    {
        const int NumRounds = 20;

        static readonly System.Random Random = new System.Random(7);

        [Test]
        public void LeftIsMinusXInUnityAndForwardStaysForward()
        {
            Near.AssertEqual(UnitySpace.Position(new Wire.Vector3(1, 2, 3)), new Vector3(-1, 2, 3));
            // A quarter turn to the left takes forward to the left: to -X in Unity.
            var left = Wire.Quaternion.CreateFromAxisAngle(Wire.Vector3.UnitY, (float)Math.PI / 2);
            Near.AssertEqual(UnitySpace.Rotation(left) * Vector3.forward, new Vector3(-1, 0, 0));
        }

        [Test]
        public void MirroringKeepsProducts()
        {
            for (int i = 0; i < NumRounds; i++)
            {
                var (a, b) = (WireTurn(), WireTurn());
                var v = new Wire.Vector3(a.X, b.Y, a.Z);
                Near.AssertEqual(UnitySpace.Rotation(a) * UnitySpace.Position(v),
                    UnitySpace.Position(Wire.Vector3.Transform(v, a)));
                Near.AssertEqual(UnitySpace.Rotation(a * b), UnitySpace.Rotation(a) * UnitySpace.Rotation(b));
            }
        }

        [TestCase(1f)]
        [TestCase(0.6f)]
        [TestCase(2.5f)]
        public void BonesOfAnyAxesStandWhereForwardKinematicsPutsThem(float scale)
        {
            for (int i = 0; i < NumRounds; i++)
            {
                using var rig = new Rig(Random, scale);
                var pose = new HumanoidPose(rig.Root, rig.Joints, Rig.Parents, Rig.RestHips);
                Assert.That(pose.Scale, Is.EqualTo(scale).Within(1e-5));
                rig.Root.position = Rig.Point(Random);  // moved and turned since it was measured
                rig.Root.rotation = Rig.Turn(Random);
                var (hips, local) = (Rig.Point(Random), Rig.Turns(Random));
                pose.Apply(hips, local);
                var (positions, turned) = Rig.Forward(hips, local);
                rig.AssertStands(positions, turned, rig.Root.position, rig.Root.rotation);
            }
        }

        [Test]
        public void AJointWithoutBoneIsTakenUpByTheNextBone()
        {
            var missing = new[] { "spine3", "l_collar", "r_collar", "l_foot", "r_foot" };
            for (int i = 0; i < NumRounds; i++)
            {
                using var rig = new Rig(Random, 1, missing);
                var pose = new HumanoidPose(rig.Root, rig.Joints, Rig.Parents, Rig.RestHips);
                // Positions can only fit while the missing joints are still; that is so here.
                var local = Rig.Turns(Random);
                foreach (string name in missing) local[Array.IndexOf(Rig.Names, name)] = Quaternion.identity;
                var (positions, turned) = Rig.Forward(Rig.RestHips, local);
                pose.Apply(Rig.RestHips, local);
                rig.AssertStands(positions, turned, rig.Root.position, rig.Root.rotation);

                // Rotations fit whatever they do.
                int chest = Array.IndexOf(Rig.Names, "spine3"), neck = Array.IndexOf(Rig.Names, "neck");
                var before = rig.Joints[neck].rotation;
                var swing = Rig.Turn(Random);
                local[chest] = swing;
                pose.Apply(Rig.RestHips, local);
                var parent = rig.Root.rotation * turned[Rig.Parents[chest]];
                Near.AssertEqual(rig.Joints[neck].rotation, parent * swing * Quaternion.Inverse(parent) * before);
            }
        }

        [Test]
        public void ARigWithoutHipsIsRefused()
        {
            using var rig = new Rig(Random);
            rig.Joints[0] = null;
            Assert.That(() => new HumanoidPose(rig.Root, rig.Joints, Rig.Parents, Rig.RestHips),
                Throws.ArgumentException);
        }

        [Test]
        public void MovingTheRootAndThePoseTogetherIsThePoseUnsplit()
        {
            for (int i = 0; i < NumRounds; i++)
            {
                using var rig = new Rig(Random, 1.3f);
                var pose = new HumanoidPose(rig.Root, rig.Joints, Rig.Parents, Rig.RestHips);
                var motion = new RootMotionDriver(rig.Root, pose.Scale);
                var (rootPosition, rootRotation) = (rig.Root.position, rig.Root.rotation);
                Step(motion, pose, Rig.RestHips, Rig.Names.Select(_ => Quaternion.identity).ToArray());
                for (int frame = 0; frame < 10; frame++)
                {
                    var (hips, local) = (Rig.Point(Random), Rig.Turns(Random));
                    Step(motion, pose, hips, local);
                    var (positions, turned) = Rig.Forward(hips, local);
                    rig.AssertStands(positions, turned, rootPosition, rootRotation);
                }
            }
        }

        [Test]
        public void ACharacterWalksFromWhereItStandsInTheDirectionItFaces()
        {
            using var rig = new Rig(Random, 2);
            rig.Root.position = new Vector3(10, 0, 20);
            rig.Root.rotation = Quaternion.AngleAxis(90, Vector3.up);  // forward is +X
            var motion = new RootMotionDriver(rig.Root, 2);
            // The stream begins anywhere, facing its own way, and walks a metre ahead.
            var turn = Quaternion.AngleAxis(-30, Vector3.up);
            Take(motion, new Vector3(3, 0.9f, 4), turn);
            Near.AssertEqual(rig.Root.position, new Vector3(10, 0, 20));
            var (hips, left) = Take(motion, new Vector3(3, 0.8f, 4) + turn * Vector3.forward, turn);
            Near.AssertEqual(rig.Root.position, new Vector3(12, 0, 20));
            Near.AssertEqual(rig.Root.rotation, Quaternion.AngleAxis(90, Vector3.up));
            Near.AssertEqual(hips, new Vector3(0, 0.8f, 0));
            Near.AssertEqual(left, Quaternion.identity);
        }

        [Test]
        public void InPlaceTheCharacterStaysAndFacesAsItDid()
        {
            using var rig = new Rig(Random);
            var (position, rotation) = (rig.Root.position, rig.Root.rotation);
            var motion = new RootMotionDriver(rig.Root, 1) { Mode = RootMotionMode.InPlace };
            Take(motion, new Vector3(0, 1, 0), Quaternion.identity);
            var (hips, turn) = Take(motion, new Vector3(5, 1, 5), Quaternion.AngleAxis(120, Vector3.up));
            Near.AssertEqual(rig.Root.position, position);
            Near.AssertEqual(rig.Root.rotation, rotation);
            Near.AssertEqual(hips, new Vector3(0, 1, 0));
            Near.AssertEqual(turn, Quaternion.identity);
        }

        [Test]
        public void AWallStopsACharacterController()
        {
            using var rig = new Rig(Random);
            (rig.Root.position, rig.Root.rotation) = (Vector3.zero, Quaternion.identity);
            var controller = rig.Root.gameObject.AddComponent<CharacterController>();
            controller.WallZ = 1;
            var motion = new RootMotionDriver(rig.Root, 1)
            {
                Mode = RootMotionMode.CharacterController,
                Controller = controller,
            };
            for (int step = 0; step <= 3; step++) Take(motion, new Vector3(0, 1, 0.4f * step), Quaternion.identity);
            Near.AssertEqual(rig.Root.position, new Vector3(0, 0, 1));
        }

        [Test]
        public void ACallbackGetsEachStepInTheWorldAndEachTurn()
        {
            using var rig = new Rig(Random);
            (rig.Root.position, rig.Root.rotation) = (Vector3.zero, Quaternion.AngleAxis(90, Vector3.up));
            var motion = new RootMotionDriver(rig.Root, 2) { Mode = RootMotionMode.Callback };
            Take(motion, new Vector3(5, 1, 5), Quaternion.identity);
            var (step, turn) = (Vector3.zero, Quaternion.identity);
            motion.Moved = (by, with) => (step, turn) = (by, with);
            Take(motion, new Vector3(5, 1, 6), Quaternion.AngleAxis(30, Vector3.up));
            Near.AssertEqual(step, new Vector3(2, 0, 0));
            Near.AssertEqual(turn, Quaternion.AngleAxis(30, Vector3.up));
            Near.AssertEqual(rig.Root.position, Vector3.zero, "the game moves it");
        }

        [Test]
        public void AnotherMotionBeginsWhereTheCharacterStands()
        {
            using var rig = new Rig(Random);
            (rig.Root.position, rig.Root.rotation) = (Vector3.zero, Quaternion.identity);
            var motion = new RootMotionDriver(rig.Root, 1);
            Take(motion, new Vector3(0, 1, 0), Quaternion.identity);
            Take(motion, new Vector3(0, 1, 1), Quaternion.identity);
            motion.Restart();
            Take(motion, new Vector3(0, 1, 0), Quaternion.identity);
            Near.AssertEqual(rig.Root.position, new Vector3(0, 0, 1));
        }

        [Test]
        public void LyingDownDoesNotSpinTheCharacter()
        {
            using var rig = new Rig(Random);
            rig.Root.rotation = Quaternion.identity;
            var motion = new RootMotionDriver(rig.Root, 1);
            Take(motion, Rig.RestHips, Quaternion.AngleAxis(40, Vector3.up));
            // On its back: the facing points straight up, then wobbles by a degree in all directions.
            for (int direction = 0; direction < 360; direction += 45)
            {
                var wobble = Quaternion.AngleAxis(1, Quaternion.AngleAxis(direction, Vector3.up) * Vector3.forward);
                Take(motion, Rig.RestHips, wobble * Quaternion.AngleAxis(-90, new Vector3(1, 0, 0)));
                Near.AssertEqual(rig.Root.rotation, Quaternion.identity);
            }
        }

        [Test]
        public void TheTPoseComesFromTheAvatarNotFromTheScreen()
        {
            using var rig = new Rig(Random, 1.1f);
            var animator = rig.AddAnimator();
            foreach (var bone in rig.Joints) bone.localRotation = Rig.Turn(Random);  // any pose but the T-pose
            var onScreen = rig.Joints.Select(bone => bone.position).ToArray();
            var retargeter = new HumanoidRetargeter(animator, Rig.Skeleton());
            for (int j = 0; j < onScreen.Length; j++) Near.AssertEqual(rig.Joints[j].position, onScreen[j], "put back");

            var frame = new MotionFrame(Rig.Names.Length) { RootPositionM = new Wire.Vector3(0, Rig.RestHipsM, 0) };
            for (int j = 0; j < frame.JointRotations.Length; j++) frame.JointRotations[j] = WireTurn();
            frame.JointRotations[0] = Wire.Quaternion.Identity;
            retargeter.Apply(frame, 0);
            var local = frame.JointRotations.Select(UnitySpace.Rotation).ToArray();
            var (positions, turned) = Rig.Forward(Rig.RestHips, local);
            rig.AssertStands(positions, turned, rig.Root.position, rig.Root.rotation);
        }

        [Test]
        public void ARigWithoutTransformsIsExplained()
        {
            using var rig = new Rig(Random);
            var animator = rig.AddAnimator();
            rig.Joints[0].name = "optimized away";
            Assert.That(() => new HumanoidRetargeter(animator, Rig.Skeleton()),
                Throws.InvalidOperationException.With.Message.Contains("Optimize Game Objects"));
        }

        [Test]
        public void AnAnimatorWithoutHumanoidAvatarIsExplained()
        {
            var thing = new GameObject("Thing");
            Assert.That(() => new HumanoidRetargeter(thing.AddComponent<Animator>(), Rig.Skeleton()),
                Throws.InvalidOperationException.With.Message.Contains("Humanoid"));
            Object.DestroyImmediate(thing);
        }

        [Test]
        public void AnotherSkeletonIsExplained()
        {
            using var rig = new Rig(Random);
            var animator = rig.AddAnimator();
            var skeleton = Rig.Skeleton();
            skeleton.JointNames[0] = "tail";
            Assert.That(() => new HumanoidRetargeter(animator, skeleton),
                Throws.InvalidOperationException.With.Message.Contains("tail"));
        }

        static void Step(RootMotionDriver motion, HumanoidPose pose, Vector3 hips, Quaternion[] local)
        {
            local = local.ToArray();
            motion.Take(ref hips, ref local[0]);
            pose.Apply(hips, local);
        }

        static (Vector3 hips, Quaternion turn) Take(RootMotionDriver motion, Vector3 hips, Quaternion turn)
        {
            motion.Take(ref hips, ref turn);
            return (hips, turn);
        }

        static Wire.Quaternion WireTurn()
        {
            var q = Rig.Turn(Random);
            return new Wire.Quaternion(q.x, q.y, q.z, q.w);
        }
    }
}
