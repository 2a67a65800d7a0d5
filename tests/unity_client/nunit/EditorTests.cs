using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using MotionR1.Editor;
using NUnit.Framework;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    /// <summary>What the editor does, on stand-ins for UnityEditor.</summary>
    public class EditorTests
    {
        const string Still = "HIERARCHY\nROOT pelvis\n{\nOFFSET 0 0 0\nCHANNELS 0\n}\nMOTION\nFrames: 1\nFrame Time: ";
        static readonly System.Random Random = new System.Random(21);

        [Test]
        public void AnEditedPlanKnowsFromWhereOnTheMotionIsMadeAnew()
        {
            var beats = new BeatList();
            beats.Load(Beats(("walk", 1), ("turn", 0.5f), ("sit", 2)));
            Assert.That((beats.IsChanged, beats.DurationS), Is.EqualTo((false, 3.5f)));
            beats.SetText(1, "  jump \n up ");
            Assert.That((beats.FirstChanged, beats.Beats[1].Text), Is.EqualTo((1, "jump up")));
            beats.Load(beats.ToPlan().Beats);
            beats.SetDuration(2, 1.26f);
            Assert.That((beats.FirstChanged, beats.Beats[2].DurationS), Is.EqualTo((2, 1.3f)));
            beats.Move(2, 0);
            Assert.That(beats.Beats.Select(beat => beat.Text), Is.EqualTo(new[] { "sit", "walk", "jump up" }));
            Assert.That(beats.FirstChanged, Is.Zero);
            beats.RemoveAt(0);
            Assert.That((beats.FirstChanged, beats.IsChanged), Is.EqualTo((2, true)), "the end is missing");
            beats.Insert(1, "wave", 0);
            Assert.That(beats.Beats[1].DurationS, Is.EqualTo(BeatList.ShortestS));
        }

        [TestCase("")]
        [TestCase("  ")]
        [TestCase("walk (fast)")]
        [TestCase("</think>")]
        public void WordsThatTheWireRefusesAreRefusedHere(string text)
        {
            var beats = new BeatList();
            beats.Load(Beats(("walk", 1)));
            Assert.That(() => beats.SetText(0, text), Throws.ArgumentException.With.Message.Contains("beat 1"));
            Assert.That(() => beats.Insert(0, text, 1), Throws.ArgumentException);
            Assert.That(beats.Beats.Single().Text, Is.EqualTo("walk"));
        }

        [Test]
        public void CodesThatReachIntoAnEditedBeatAreMadeAnew()
        {
            var beats = new BeatList();
            beats.Load(Beats(("walk", 0.5f), ("turn", 0.5f), ("sit", 1)));
            var motion = Moving(10);  // codes of 0.2 s
            Assert.That(beats.FirstCode(1, motion), Is.EqualTo(2), "code 2 is half in the second beat");
            Assert.That(beats.From(1, motion).Select(beat => beat.DurationS), Is.EqualTo(new[] { 0.6f, 1f }));
            Assert.That(beats.FirstCode(2, motion), Is.EqualTo(5));
            Assert.That(beats.From(2, motion).Single().DurationS, Is.EqualTo(1));
            Assert.That(beats.FirstCode(3, motion), Is.EqualTo(10));
        }

        [Test]
        public void BakedMusclesAndTheLivePathDriveTheSamePose()
        {
            const float maxDegrees = 0.5f;
            var motion = Moving(6);
            var clip = ClipBaker.Humanoid(motion, default);
            Assert.That(clip.frameRate, Is.EqualTo(20));
            using var live = Standing(1.3f);
            using var baked = Standing(1.3f);
            var retargeter = new HumanoidRetargeter(live.AddAnimator(), Rig.Skeleton()) { LockFeet = false };
            using var handler = new HumanPoseHandler(baked.AddAnimator().avatar, baked.Root);
            var frame = new MotionFrame(Rig.Names.Length);
            float worst = 0;
            for (int index = 0; index < motion.NumFrames; index++)
            {
                motion.ReadFrame(index, frame);
                retargeter.Apply(frame, 0);
                Set(handler, clip, index / 20f);
                for (int j = 0; j < Rig.Names.Length; j++)
                {
                    // Both rigs have their own axes: what counts is the turn since the T-pose.
                    float error = Quaternion.Angle(live.Turned(j), baked.Turned(j));
                    Assert.That(error, Is.LessThanOrEqualTo(maxDegrees), $"frame {index}, {Rig.Names[j]}");
                    worst = Math.Max(worst, error);
                }
                Assert.That((live.Joints[0].position - baked.Joints[0].position).magnitude, Is.LessThan(1e-3f));
            }
            TestContext.WriteLine($"baked and live at most {worst:0.0000} degrees apart");
        }

        [Test]
        public void AClipInPlaceStaysAndALoopIsMarked()
        {
            var clip = ClipBaker.Humanoid(Moving(6), new BakeOptions { InPlace = true, Loop = true });
            foreach (string axis in new[] { "RootT.x", "RootT.z" })
                Assert.That(Values(clip, "", axis), Has.All.EqualTo(0).Within(1e-5));
            var settings = AnimationUtility.GetAnimationClipSettings(clip);
            Assert.That((settings.loopTime, settings.loopBlend), Is.EqualTo((true, true)));
            Assert.That(Values(ClipBaker.Humanoid(Moving(6), default), "", "RootT.z").Last(), Is.GreaterThan(0.5f));
        }

        [Test]
        public void AGenericClipHoldsTheBonesOfItsRigAndLeavesItAsItStood()
        {
            var motion = Moving(3);
            using var rig = Standing(0.8f);
            var animator = rig.AddAnimator();
            var before = rig.Joints.Select(bone => (bone.position, bone.rotation)).ToArray();
            var clip = ClipBaker.Generic(motion, animator, default);
            for (int j = 0; j < before.Length; j++)
            {
                Near.AssertEqual(rig.Joints[j].position, before[j].position);
                Near.AssertEqual(rig.Joints[j].rotation, before[j].rotation);
            }
            var retargeter = new HumanoidRetargeter(animator, Rig.Skeleton()) { LockFeet = false };
            var frame = new MotionFrame(Rig.Names.Length);
            for (int index = 0; index < motion.NumFrames; index++)
            {
                motion.ReadFrame(index, frame);
                retargeter.Apply(frame, 0);
                foreach (var bone in rig.Joints)
                {
                    string path = ClipBaker.PathOf(bone, rig.Root);
                    float At(string name) => Values(clip, path, "m_LocalRotation." + name)[index];
                    Near.AssertEqual(new Quaternion(At("x"), At("y"), At("z"), At("w")), bone.localRotation, path);
                }
            }
            Assert.That(clip.Curves.Keys.Select(key => key.path), Has.Member("bone_pelvis/bone_l_hip/bone_l_knee"));
        }

        [Test]
        public void AGenericClipBeginsAtTheOriginWhereverItsRigStands()
        {
            using var rig = Standing(1);
            var animator = rig.AddAnimator();
            var home = ClipBaker.Generic(Moving(3), animator, default);
            var (place, turn) = (new Vector3(10, 0, 5), Quaternion.AngleAxis(90, Vector3.up));
            (rig.Root.position, rig.Root.rotation) = (place, turn);
            var away = ClipBaker.Generic(Moving(3), animator, default);
            foreach (string axis in new[] { "m_LocalPosition.x", "m_LocalPosition.z", "m_LocalRotation.y" })
            {
                Assert.That(Values(away, "", axis)[0], Is.EqualTo(0).Within(1e-6), axis);
                Assert.That(Values(away, "", axis), Is.EqualTo(Values(home, "", axis)).Within(1e-5), axis);
            }
            Near.AssertEqual(rig.Root.position, place);
            Near.AssertEqual(rig.Root.rotation, turn);
        }

        [Test]
        public void CurvesOfTurnsHaveNoJumpsOfSign()
        {
            var clip = ClipBaker.Humanoid(Moving(30), default);
            var parts = "xyzw".Select(axis => Values(clip, "", "RootQ." + axis)).ToArray();
            for (int i = 1; i < parts[0].Length; i++)
                Assert.That(parts.Sum(part => part[i] * part[i - 1]), Is.GreaterThan(0.5f), $"frame {i}");
        }

        [Test]
        public void AClipCarriesItsPassportAndAnotherBakeKeepsTheAsset()
        {
            const string path = "Assets/Walk.anim";
            var motion = Moving(4);
            motion.Summary.Quality = new QualityReport { Score = 0.8f, Verdict = Verdict.Good };
            var options = new BakeOptions { Loop = true };
            var clip = ClipAsset.Save(path, ClipBaker.Humanoid(motion, options),
                MotionPassport.For(motion, "walk on", options));
            var passport = ClipAsset.PassportOf(path);
            Assert.That((passport.Prompt, passport.Seed, passport.ModelId, passport.Licence, passport.Score),
                Is.EqualTo(("walk on", ulong.MaxValue, "tiny", "Apache-2.0", 0.8f)));
            Assert.That(passport.ToDecodeRequest().Codes, Is.EqualTo(motion.Codes()));
            Assert.That(passport.Options.Loop, Is.True);
            Assert.That(passport.ToPlan().Beats.Select(beat => (beat.Text, beat.DurationS, beat.BodyParts.Count)),
                Is.EqualTo(new[] { ("walk", 0.8f, 1) }));

            var again = Moving(8);
            var same = ClipAsset.Save(path, ClipBaker.Humanoid(again, default),
                MotionPassport.For(again, "walk further", default));
            Assert.That(same, Is.SameAs(clip));
            Assert.That(ClipAsset.PassportOf(path).Prompt, Is.EqualTo("walk further"));
            Assert.That(Values(clip, "", "RootT.x").Length, Is.EqualTo(32));
        }

        [Test]
        public void AnIncompleteMotionGetsNoPassport()
        {
            var motion = Moving(4);
            motion.RemoveFrom(2);
            Assert.That(() => MotionPassport.For(motion, "walk", default), Throws.ArgumentException);
        }

        [Test]
        public void ABvhFileOfTheBridgesIsReadInItsOrderOfAxes()
        {
            var motion = BvhReader.Read(
                "HIERARCHY\nROOT pelvis\n{\n\tOFFSET 0 0 0\n" +
                "\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n" +
                "\tJOINT l_hip\n\t{\n\t\tOFFSET 0.06 -0.9 0\n\t\tCHANNELS 3 Zrotation Xrotation Yrotation\n" +
                "\t\tEnd Site\n\t\t{\n\t\t\tOFFSET 0 -0.2 0\n\t\t}\n\t}\n}\n" +
                "MOTION\nFrames: 2\nFrame Time: 0.05\n0 1 2 0 0 90 30 20 10\n0 1 3 0 0 0 0 0 0\n");
            Assert.That((motion.NumFrames, motion.Header.Model.FrameRateHz), Is.EqualTo((2, 20f)));
            Assert.That(motion.Header.Model.Skeleton.RestRootHeightM, Is.EqualTo(0.9f).Within(1e-6));
            var frame = new MotionFrame(2);
            motion.ReadFrame(0, frame);
            Assert.That(frame.RootPositionM, Is.EqualTo(new Wire.Vector3(0, 1, 2)));
            Wire.Quaternion About(Wire.Vector3 axis, double degrees) =>
                Wire.Quaternion.CreateFromAxisAngle(axis, (float)(degrees * Math.PI / 180));
            var expected = About(Wire.Vector3.UnitZ, 30) * About(Wire.Vector3.UnitX, 20) * About(Wire.Vector3.UnitY, 10);
            Assert.That(Wire.Quaternion.Dot(frame.JointRotations[1], expected), Is.EqualTo(1).Within(1e-6));
        }

        [TestCase("HIERARCHY\nROOT Hips\n", "Hips")]
        [TestCase("HIERARCHY\nROOT pelvis\n{\nOFFSET 0 x 0", "line 4")]
        [TestCase("MOTION", "HIERARCHY")]
        [TestCase("HIERARCHY\nROOT pelvis\n{", "too early")]
        [TestCase(Still + "0.0005\n", "0.0005 s")]
        [TestCase(Still + "-0.05\n", "-0.05 s")]
        public void ABvhFileOfOthersIsExplained(string text, string words)
        {
            Assert.That(() => BvhReader.Read(text), Throws.TypeOf<FormatException>().With.Message.Contains(words));
        }

        [TestCase("reload")]
        [TestCase("play")]
        [TestCase("undo")]
        [TestCase("close")]
        [TestCase("quit")]
        public void NoStreamStaysOpen(string what)
        {
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2).Take(3), null))
            {
                HangsAtEnd = true,
            };
            var calls = new OpenCalls(() => new MotionClient(transport));
            var task = calls.Make(new StreamMotionRequest { Prompt = "walk" });
            Assert.That((calls.Num, task.IsCompleted), Is.EqualTo((1, false)));
            switch (what)
            {
                case "reload": AssemblyReloadEvents.Reload(); break;
                case "play": EditorApplication.Change(PlayModeStateChange.ExitingEditMode); break;
                case "undo": Undo.undoRedoPerformed(); break;
                case "quit": EditorApplication.Quit(); break;
                default: calls.Dispose(); break;
            }
            Assert.That(() => task.Wait(TimeSpan.FromSeconds(20)),
                Throws.InnerException.InstanceOf<OperationCanceledException>());
            Assert.That((calls.Num, transport.ResponseDisposed), Is.EqualTo((0, true)));
            calls.Dispose();
        }

        [Test]
        public void TheBeatsBeforeAnEditKeepTheirCodes()
        {
            var motion = Moving(5);
            var transport = new ScriptedTransport(Streams.WebBody(Streams.Complete(2)));
            using var calls = new OpenCalls(() => new MotionClient(transport));
            var limits = new Limits { MaxHistoryCodes = 32 };
            var made = MotionClientTests.Wait(() => calls.Remake(motion, 3, new StreamMotionRequest(), limits));
            Assert.That(made.Codes().Take(3), Is.EqualTo(motion.Codes().Take(3)));
            Assert.That((made.Chunks.Count, motion.Chunks.Count), Is.EqualTo((5, 5)), "the first take is kept");
        }

        [Test]
        public void AnEmptyWindowSaysWhatToDo()
        {
            BridgeSettings.instance.Host = "127.0.0.1:1";
            var window = new MotionWindow();
            Call(window, "OnEnable");
            Call(window, "CreateGUI");
            try
            {
                var words = string.Join("|", Texts(window.rootVisualElement));
                Assert.That(words, Does.Contain("No plan yet").And.Contain("press Generate"));
                Find<Button>(window.rootVisualElement, "Bake").Click();
                Assert.That(string.Join("|", Texts(window.rootVisualElement)), Does.Contain("generate first"));
                window.rootVisualElement.Raise(new KeyDownEvent { keyCode = KeyCode.Escape });
                Assert.That(Texts(window.rootVisualElement), Has.Member("cancelled"));
                EditorUtility.Chosen = System.IO.Path.GetTempPath();  // a folder is no file
                Find<Button>(window.rootVisualElement, "Import BVH").Click();
                Assert.That(string.Join("|", Texts(window.rootVisualElement)), Does.Contain("denied"));
            }
            finally
            {
                Call(window, "OnDisable");
            }
        }

        [Test]
        public void SettingsMakeTheAddress()
        {
            var settings = BridgeSettings.instance;
            (settings.Host, settings.Tls, settings.Token) = (" bridge.example:443 ", true, "secret");
            Assert.That((settings.Address, settings.Token), Is.EqualTo(("https://bridge.example:443", "secret")));
            var saved = new List<string>();
            settings.Saved += () => saved.Add(settings.Address);
            settings.Tls = false;
            Assert.That(saved, Is.EqualTo(new[] { "http://bridge.example:443" }), "saved as it is now");
            Assert.That(settings.Address, Is.EqualTo("http://bridge.example:443"));
        }

        internal static void Call(object target, string method) => target.GetType()
            .GetMethod(method, BindingFlags.Instance | BindingFlags.NonPublic).Invoke(target, null);

        internal static IEnumerable<string> Texts(VisualElement element)
        {
            if (element is TextElement text) yield return text.text;
            for (int i = 0; i < element.childCount; i++)
                foreach (string found in Texts(element[i])) yield return found;
        }

        internal static List<T> All<T>(VisualElement element) where T : VisualElement
        {
            var all = new List<T>();
            if (element is T found) all.Add(found);
            for (int i = 0; i < element.childCount; i++) all.AddRange(All<T>(element[i]));
            return all;
        }

        internal static T Find<T>(VisualElement element, string text) where T : TextElement
        {
            if (element is T found && found.text == text) return found;
            for (int i = 0; i < element.childCount; i++)
                if (Find<T>(element[i], text) is { } below) return below;
            return null;
        }

        static void Set(HumanPoseHandler handler, AnimationClip clip, float timeS)
        {
            float At(string name) =>
                clip.Curves.TryGetValue(("", typeof(Animator), name), out var curve) ? curve.Evaluate(timeS) : 0;
            var pose = new HumanPose
            {
                bodyPosition = new Vector3(At("RootT.x"), At("RootT.y"), At("RootT.z")),
                bodyRotation = new Quaternion(At("RootQ.x"), At("RootQ.y"), At("RootQ.z"), At("RootQ.w")),
                muscles = HumanTrait.MuscleName.Select(At).ToArray(),
            };
            handler.SetHumanPose(ref pose);
        }

        static float[] Values(AnimationClip clip, string path, string property)
        {
            var curve = clip.Curves.Single(entry => entry.Key.path == path && entry.Key.property == property).Value;
            return Enumerable.Range(0, curve.length).Select(i => curve[i].value).ToArray();
        }

        static Rig Standing(float scale)
        {
            var rig = new Rig(Random, scale);
            (rig.Root.position, rig.Root.rotation) = (Vector3.zero, Quaternion.identity);
            return rig;
        }

        static List<Beat> Beats(params (string text, float seconds)[] beats) =>
            beats.Select(beat => new Beat { Text = beat.text, DurationS = beat.seconds }).ToList();

        internal static Plan Plan(params (string text, float seconds)[] beats)
        {
            var plan = new Plan();
            plan.Beats.AddRange(Beats(beats));
            return plan;
        }

        // Walks and turns; limbs move as far as muscles can follow: hinges about one axis and their twist.
        internal static RecordedMotion Moving(int numCodes)
        {
            var motion = new RecordedMotion();
            var header = Streams.Header(Rig.Names.Length);
            var model = header.Model;
            (model.Skeleton, model.ModelId, model.Licence) = (Rig.Skeleton(), "tiny", "Apache-2.0");
            motion.Add(new MotionEvent { Header = header });
            var plan = new Plan { Text = "1. walk, 0.8 s" };
            plan.Beats.Add(new Beat { Text = "walk", DurationS = 0.8f });
            plan.Beats[0].BodyParts.Add("left arm");
            motion.Add(new MotionEvent { Plan = plan });
            for (int code = 0; code < numCodes; code++)
            {
                int first = code * Streams.FramesPerCode;
                var chunk = Streams.Chunk(first, numJoints: Rig.Names.Length);
                var frames = Enumerable.Range(first, Streams.FramesPerCode).ToArray();
                chunk.RootPositionsM = Streams.Bytes(frames
                    .SelectMany(f => new[] { 0.01f * f, Rig.RestHipsM, 0.05f * f }).ToArray());
                chunk.JointRotations = Streams.Bytes(frames.SelectMany(f => Enumerable.Range(0, Rig.Names.Length)
                    .SelectMany(joint => Turn(f, joint))).ToArray());
                motion.Add(new MotionEvent { Chunk = chunk });
            }
            motion.Add(new MotionEvent
            {
                Summary = new StreamSummary
                {
                    NumCodes = numCodes,
                    NumFrames = numCodes * Streams.FramesPerCode,
                    Seed = ulong.MaxValue,
                },
            });
            return motion;
        }

        static float[] Turn(int frame, int joint)
        {
            string name = Rig.Names[joint].Substring(Rig.Names[joint].IndexOf('_') + 1);
            int axes = name switch
            {
                "foot" => 1,
                "knee" => 2,
                "ankle" => 2,
                "collar" => 2,
                "elbow" => 2,
                "wrist" => 2,
                _ => 3,
            };
            var vector = new Wire.Vector3(
                0.5f * (float)Math.Sin(0.3 * frame + joint),
                axes > 1 ? 0.4f * (float)Math.Cos(0.2 * frame + 2 * joint) : 0,
                axes > 2 ? 0.3f * (float)Math.Sin(0.25 * frame + 3 * joint) : 0);
            if (joint == 0) vector = new Wire.Vector3(0, 0.15f * frame, 0);  // round and round
            float angle = vector.Length();
            var q = angle < 1e-6f ? Wire.Quaternion.Identity
                : Wire.Quaternion.CreateFromAxisAngle(vector / angle, angle);
            return new[] { q.X, q.Y, q.Z, q.W };
        }
    }
}
