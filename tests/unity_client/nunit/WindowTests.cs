using System;
using System.Linq;
using System.Reflection;
using System.Threading;
using MotionR1.Editor;
using NUnit.Framework;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Tests
{
    /// <summary>The designer's window, clicked through against the real bridge that pytest has started.</summary>
    public class WindowTests
    {
        const string Path = "Assets/FromTheWindow.anim";

        [SetUp]
        public void NeedABridge() => NativeGrpcTests.RequireAddresses();

        [Test]
        public void FromASentenceToAClipAndAgainFromItsCodes()
        {
            string address = Environment.GetEnvironmentVariable("MOTION_R1_WEB_ADDRESS");
            (BridgeSettings.instance.Host, BridgeSettings.instance.Token) = (new Uri(address).Authority, "");
            (EditorUtility.Chosen, Selection.activeObject) = (Path, null);
            var window = new MotionWindow();
            EditorTests.Call(window, "OnEnable");
            EditorTests.Call(window, "CreateGUI");
            try
            {
                Wait(window, "ExecutionProvider");
                Click(window, "Plan");
                Wait(window, "from here");
                Click(window, "Generate");
                WaitForStep("Generate motion", 1);
                Wait(window, "weakest");
                Click(window, "Bake");
                Wait(window, "baked " + Path);
                var passport = ClipAsset.PassportOf(Path);
                var codes = passport.ToDecodeRequest().Codes;
                Assert.That((codes.Count > 0, passport.ToPlan().Beats.Count > 0), Is.EqualTo((true, true)));
                var clip = AssetDatabase.LoadAssetAtPath<AnimationClip>(Path);
                var before = Curve(clip);

                // Three takes of the same plan side by side, the best of them chosen.
                Selection.activeObject = clip;
                EditorTests.All<SliderInt>(window.rootVisualElement).Single().value = 3;
                Click(window, "Generate");
                WaitForStep("Generate motion", 2);
                Assert.That(Draft(window).Takes.Select(take => take.Motion.Summary.Seed),
                    Is.EqualTo(new[] { 1UL, 2UL, 3UL }));
                Assert.That(Draft(window).Takes.Max(take => take.Score), Is.EqualTo(Draft(window).Chosen.Score));
                Wait(window, "Take 3: seed 3");
                Draw(window);
                Undo.PerformUndo();
                Assert.That(Draft(window).Chosen.Motion.Codes(), Is.EqualTo(codes), "the take before");

                // The last beat made anew: what is before it stays, what was there stands beside it.
                var plan = Draft(window).Plan;
                int last = plan.Beats.Count - 1, kept = plan.FirstCode(last, Draft(window).Chosen.Motion);
                EditorTests.All<SliderInt>(window.rootVisualElement).Single().value = 1;
                Draft(window).EditPlan("Edit beat", beats => beats.SetText(last, "wave with the right hand"));
                EditorTests.All<Button>(window.rootVisualElement).Last(button => button.text == "from here").Click();
                WaitForStep($"Make anew from beat {last + 1}", 1);
                Assert.That(Draft(window).Takes.Select(take => take.FromBeat), Is.EqualTo(new[] { 0, last }));
                Assert.That(Draft(window).Chosen.Motion.Codes().Take(kept), Is.EqualTo(codes.Take(kept)));
                Assert.That(Draft(window).Plan.Beats[last].Text, Is.EqualTo("wave with the right hand"));
                Undo.PerformUndo();
                Assert.That(Draft(window).Takes.Single().Motion.Codes(), Is.EqualTo(codes));

                Click(window, "Bake again");
                WaitForStep("Bake again", 1);
                Wait(window, "baked " + Path);
                Assert.That(ClipAsset.PassportOf(Path).ToDecodeRequest().Codes, Is.EqualTo(codes));
                Assert.That(Curve(clip), Is.EqualTo(before), "the same codes, the same curve");
            }
            finally
            {
                EditorTests.Call(window, "OnDisable");
            }
        }

        // The documentation's picture: with what is in the window now, some way into the motion.
        static void Draw(MotionWindow window)
        {
            string folder = Environment.GetEnvironmentVariable(DrawingTests.Folder);
            if (string.IsNullOrEmpty(folder)) return;
            var time = EditorTests.All<Slider>(window.rootVisualElement).Single();
            time.value = time.highValue * 0.45f;
            const float width = 860, margin = 12;
            float height = Drawing.Height(window.rootVisualElement, width - 2 * margin) + 2 * margin;
            var drawing = new Drawing(width, height, "#383838");
            drawing.Element(window.rootVisualElement, margin, margin, width - 2 * margin);
            drawing.Save(System.IO.Path.Combine(folder, "window.svg"));
        }

        static MotionDraft Draft(MotionWindow window) => (MotionDraft)typeof(MotionWindow)
            .GetField("_draft", BindingFlags.Instance | BindingFlags.NonPublic).GetValue(window);

        static void WaitForStep(string name, int times)
        {
            for (int i = 0; i < 1200; i++)
            {
                if (Undo.Names.Count(step => step == name) == times) return;
                Thread.Sleep(50);
            }
            Assert.Fail($"waited for step '{name}': {string.Join(", ", Undo.Names)}");
        }

        static float[] Curve(AnimationClip clip)
        {
            var curve = clip.Curves[("", typeof(Animator), "RootT.z")];
            return Enumerable.Range(0, curve.length).Select(i => curve[i].value).ToArray();
        }

        static void Click(MotionWindow window, string button) =>
            EditorTests.Find<Button>(window.rootVisualElement, button).Click();

        static void Wait(MotionWindow window, string words)
        {
            string texts = "";
            for (int i = 0; i < 1200; i++)
            {
                texts = string.Join("|", EditorTests.Texts(window.rootVisualElement));
                if (texts.Contains(words)) return;
                Thread.Sleep(50);
            }
            Assert.Fail($"waited for {words}: {texts}");
        }
    }
}
