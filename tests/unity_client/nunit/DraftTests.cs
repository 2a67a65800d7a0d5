using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using MotionR1.Core;
using MotionR1.Core.V1;
using MotionR1.Editor;
using NUnit.Framework;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Tests
{
    /// <summary>What a designer works on: every change can be undone, and a domain reload keeps it. On stand-ins for
    /// UnityEditor, whose undo and serializer follow Unity's published rules.</summary>
    public class DraftTests
    {
        MotionWindow _window;

        [SetUp]
        public void OpenTheWindow()
        {
            BridgeSettings.instance.Host = "127.0.0.1:1";  // nobody answers there
            _window = new MotionWindow();
            EditorTests.Call(_window, "OnEnable");
            EditorTests.Call(_window, "CreateGUI");
            Draft.TakePlan(EditorTests.Plan(("walk", 1), ("turn", 0.5f), ("sit", 2)));
        }

        [TearDown]
        public void CloseTheWindow()
        {
            EditorTests.Call(_window, "OnDisable");
            EditorTests.Call(_window, "OnDestroy");
            Assert.That(Undo.Names, Has.None.Contains("beat"), "a closed window leaves no steps behind");
        }

        MotionDraft Draft => (MotionDraft)DraftField.GetValue(_window);

        static FieldInfo DraftField =>
            typeof(MotionWindow).GetField("_draft", BindingFlags.Instance | BindingFlags.NonPublic);

        string[] Beats => Draft.Plan.Beats.Select(beat => beat.ToString()).ToArray();

        string[] Fields => EditorTests.All<TextField>(_window.rootVisualElement)
            .Where(field => field.label == null).Select(field => field.value).ToArray();

        [Test]
        public void EditsOfBeatsAreUndoneAndRedoneOneByOneByTheirNames()
        {
            var states = new List<string[]> { Beats };
            Edit("walk", "jump up");
            states.Add(Beats);
            EditorTests.All<FloatField>(_window.rootVisualElement)[1].value = 0.8f;
            states.Add(Beats);
            Click("down", 0);
            states.Add(Beats);
            Click("remove", 2);
            states.Add(Beats);
            Click("Add a beat");
            states.Add(Beats);
            Assert.That(Beats, Is.EqualTo(new[] { "turn, 0.8 s", "jump up, 1.0 s", "stand, 1.0 s" }));
            Assert.That(Undo.Names.Take(5), Is.EqualTo(new[]
            {
                "Add beat", "Remove beat 3", "Move beat 1", "Change length of beat 2", "Edit beat 1",
            }));
            for (int i = states.Count - 2; i >= 0; i--)
            {
                Undo.PerformUndo();
                Assert.That(Beats, Is.EqualTo(states[i]));
                Assert.That(Fields, Is.EqualTo(Draft.Plan.Beats.Select(beat => beat.Text)), "on screen too");
            }
            for (int i = 1; i < states.Count; i++)
            {
                Undo.PerformRedo();
                Assert.That(Beats, Is.EqualTo(states[i]));
            }
        }

        [Test]
        public void WhatABeatIsAboutIsChosenFromTheBodyPartsOfTheWire()
        {
            Click("whole body", 1);
            Assert.That(GenericMenu.Shown.Items.Select(item => item.text).Skip(1), Is.EqualTo(BeatList.BodyParts));
            GenericMenu.Shown.Choose("left arm");
            Click("left arm");
            Assert.That(GenericMenu.Shown.Items.Where(item => item.on).Select(item => item.text),
                Is.EqualTo(new[] { "left arm" }));
            GenericMenu.Shown.Choose("head");
            Assert.That(Beats[1], Is.EqualTo("turn (left arm, head), 0.5 s"));
            Assert.That(Draft.BeatsToSend.ElementAt(1).BodyParts, Is.EqualTo(new[] { "left arm", "head" }));
            Click("left arm, head");
            GenericMenu.Shown.Choose("left arm");
            Assert.That(Beats[1], Is.EqualTo("turn (head), 0.5 s"));
            Click("head");
            GenericMenu.Shown.Choose("whole body");
            Assert.That(Beats[1], Is.EqualTo("turn, 0.5 s"));
            Undo.PerformUndo();
            Assert.That(Beats[1], Is.EqualTo("turn (head), 0.5 s"));
            Assert.That(() => Draft.EditPlan("Edit", plan => plan.SetBodyPart(0, "tail", true)),
                Throws.ArgumentException.With.Message.Contains("left hand"));
        }

        [Test]
        public void AnEditThatIsRefusedIsNoStep()
        {
            var names = Undo.Names.ToArray();
            Edit("walk", "walk (fast)");
            Assert.That(Texts, Does.Contain("cannot be in a beat"));
            Assert.That(Fields[0], Is.EqualTo("walk"), "the field shows what counts");
            Assert.That(Undo.Names, Is.EqualTo(names));
        }

        [Test]
        public void TypingASentenceIsOneStepAndChangingTheSeedAnother()
        {
            var prompt = EditorTests.All<TextField>(_window.rootVisualElement)
                .Single(field => field.label == "What the character does");
            string before = Draft.Prompt;
            foreach (string typed in new[] { "a", "a p", "a person" }) prompt.value = typed;
            prompt.Raise(new FocusOutEvent());
            prompt.value = "a person jumps";
            EditorTests.All<TextField>(_window.rootVisualElement).Single(field => field.label == "Seed").value = "99";
            Assert.That(Undo.Names.Take(3), Is.EqualTo(new[] { "Change seed", "Edit prompt", "Edit prompt" }));
            Undo.PerformUndo();
            Assert.That((Draft.Seed, Draft.Prompt), Is.EqualTo((1UL, "a person jumps")));
            Undo.PerformUndo();
            Assert.That((Draft.Prompt, prompt.value), Is.EqualTo(("a person", "a person")));
            Undo.PerformUndo();
            Assert.That((Draft.Prompt, prompt.value), Is.EqualTo((before, before)));
        }

        [Test]
        public void ASeedThatIsNoneIsRefused()
        {
            var seed = EditorTests.All<TextField>(_window.rootVisualElement).Single(field => field.label == "Seed");
            seed.value = "-3";
            Assert.That((Draft.Seed, seed.value), Is.EqualTo((1UL, "1")));
            Assert.That(Texts, Does.Contain("'-3'"));
        }

        [Test]
        public void TakesStandSideBySideWithTheirVerdictsAndOneIsChosen()
        {
            Draft.SetTakes("Generate motion", new[]
            {
                Take("walk", 3, 0.5f, Verdict.Fair), Take("crawl", 4, 0.9f, Verdict.Good),
                Take("fall", 5, 0.1f, Verdict.Poor),
            }, 1);
            foreach (string words in new[] { "Take 1: seed 3", "Take 2: seed 4", "Take 3: seed 5", "Fair, score 0.50",
                "Good, score 0.90", "Poor, score 0.10" })
                Assert.That(Texts, Does.Contain(words));
            Assert.That(Named("Chosen").Select(button => button.enabledSelf), Is.EqualTo(new[] { false }));
            Assert.That(EditorTests.All<StickFigure>(_window.rootVisualElement).Count, Is.EqualTo(4), "and the preview");
            Assert.That(Beats, Is.EqualTo(new[] { "crawl, 0.8 s" }), "the plan of the chosen one");
            Click("Choose", 1);
            Assert.That((Draft.ChosenIndex, Beats[0]), Is.EqualTo((2, "fall, 0.8 s")));
            Undo.PerformUndo();
            Assert.That((Draft.ChosenIndex, Beats[0]), Is.EqualTo((1, "crawl, 0.8 s")));
            Undo.PerformUndo();
            Assert.That((Draft.Takes.Count, Beats.Length), Is.EqualTo((0, 3)), "as before they were made");
            Assert.That(Named("Chosen"), Is.Empty);
            Undo.PerformRedo();
            Assert.That(Draft.Takes.Select(take => take.Motion.Summary.Seed), Is.EqualTo(new[] { 3UL, 4UL, 5UL }));
        }

        [Test]
        public void ADomainReloadKeepsEverything()
        {
            Draft.Prompt = "a person crawls";
            Draft.Seed = ulong.MaxValue;
            Draft.SetTakes("Generate motion", new[] { Take("walk", 3, 0.5f, Verdict.Fair), Take("crawl", 4, 0.9f,
                Verdict.Good) }, 1);
            Edit("crawl", "crawl back");
            Click("whole body");
            GenericMenu.Shown.Choose("head");
            var (before, beats) = (Draft, Beats);

            // What the editor does: components stop, what is serialized goes over, and they start again.
            EditorTests.Call(_window, "OnDisable");
            _window = (MotionWindow)Serialization.Reload(_window);
            DraftField.SetValue(_window, Serialization.Reload(before));
            EditorTests.Call(_window, "OnEnable");
            EditorTests.Call(_window, "CreateGUI");

            Assert.That((Draft.Prompt, Draft.Seed, Draft.ChosenIndex),
                Is.EqualTo(("a person crawls", ulong.MaxValue, 1)));
            Assert.That((Draft.Plan.IsChanged, Draft.Plan.FirstChanged), Is.EqualTo((true, 0)));
            Assert.That(Beats, Is.EqualTo(beats).And.EqualTo(new[] { "crawl back (head), 0.8 s" }));
            Assert.That(Draft.Chosen.Motion.ToBytes(), Is.EqualTo(before.Chosen.Motion.ToBytes()), "frames and all");
            Assert.That(Draft.hideFlags, Is.EqualTo(HideFlags.HideAndDontSave), "or the next scene takes it away");
            Assert.That(Texts, Does.Contain("Good, score 0.90"), "on screen as well");
            Click("Generate");
            Assert.That(Texts, Does.Not.Contain("are being made"), "nothing is under way");
            Undo.ClearUndo(before);
        }

        [Test]
        public void MakingAnewFromBehindAnEditIsRefused()
        {
            var take = Take("walk", 3, 0.5f, Verdict.Fair, "wave");
            Draft.SetTakes("Generate motion", new[] { take }, 0);
            Edit("walk", "run");
            Click("from here", 1);
            Assert.That(Texts, Does.Contain("beat 1 is not what the motion was made from"));
        }

        string Texts => string.Join("|", EditorTests.Texts(_window.rootVisualElement));

        List<Button> Named(string text) =>
            EditorTests.All<Button>(_window.rootVisualElement).Where(button => button.text == text).ToList();

        void Click(string text, int which = 0) => Named(text)[which].Click();

        void Edit(string from, string to) => EditorTests.All<TextField>(_window.rootVisualElement)
            .First(field => field.label == null && field.value == from).value = to;

        static MotionTake Take(string does, ulong seed, float score, Verdict verdict, string then = null)
        {
            var motion = EditorTests.Moving(4);
            motion.Header.Model.Revision = "abc";
            (motion.Summary.Seed, motion.Summary.Quality) =
                (seed, new QualityReport { Score = score, Verdict = verdict, WeakestMeasure = "jerk_m_s3" });
            var beats = then == null ? new[] { (does, 0.8f) } : new[] { (does, 0.4f), (then, 0.4f) };
            motion.Add(new MotionEvent { Plan = EditorTests.Plan(beats) });
            return new MotionTake("a person moves", motion);
        }
    }
}
