using System;
using System.Linq;
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
                Wait(window, "weakest");
                Click(window, "Bake");
                Wait(window, "baked " + Path);
                var passport = ClipAsset.PassportOf(Path);
                var codes = passport.ToDecodeRequest().Codes;
                Assert.That((codes.Count > 0, passport.Beats().Count > 0), Is.EqualTo((true, true)));
                var clip = AssetDatabase.LoadAssetAtPath<AnimationClip>(Path);
                var before = Curve(clip);

                Selection.activeObject = clip;
                Click(window, "Generate");
                Wait(window, "weakest");
                Click(window, "Bake again");
                for (int i = 0; i < 1200 && ClipAsset.PassportOf(Path) == passport; i++) Thread.Sleep(50);
                Assert.That(ClipAsset.PassportOf(Path).ToDecodeRequest().Codes, Is.EqualTo(codes));
                Assert.That(Curve(clip), Is.EqualTo(before), "the same codes, the same curve");
            }
            finally
            {
                EditorTests.Call(window, "OnDisable");
            }
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
