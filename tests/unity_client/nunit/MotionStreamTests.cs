using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;
using UnityEngine;
using Wire = System.Numerics;

namespace MotionR1.Tests
{
    /// <summary>The component with a clock and a main thread of ours; these need the stand-ins for
    /// UnityEngine.</summary>
    public class MotionStreamTests
    {
        const float FrameS = 1 / 60f;

        readonly List<string> _log = new List<string>();
        readonly List<ScriptedTransport> _transports = new List<ScriptedTransport>();
        readonly System.Random _random = new System.Random(3);
        MainThread _main;
        string _folder;
        Rig _rig;
        MotionStream _stream;

        [SetUp]
        public void PutACharacterOnStage()
        {
            _log.Clear();
            _transports.Clear();
            _folder = Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString("N"));
            Debug.Errors.Clear();
            Debug.Warnings.Clear();
            _main = new MainThread();
            _rig = new Rig(_random);
            _rig.Root.position = Vector3.zero;
            _rig.Root.rotation = Quaternion.identity;
            _rig.AddAnimator();
            _stream = _rig.Root.gameObject.AddComponent<MotionStream>();
            _stream.Cache = new MotionCache();
            _stream.PlanReceived.AddListener(plan => _log.Add($"plan {plan.Text}"));
            _stream.Finished.AddListener(summary => _log.Add($"finished {summary.NumFrames}"));
            _stream.Failed.AddListener(error => _log.Add($"failed {error.Code}"));
            _stream.Underrun.AddListener(() => _log.Add("underrun"));
        }

        [TearDown]
        public void ClearTheStage()
        {
            Call("OnDisable");
            _rig.Dispose();
            _main.Dispose();
            if (Directory.Exists(_folder)) Directory.Delete(_folder, true);
        }

        [Test]
        public void AWalkIsPlannedWalkedAndFinished()
        {
            Answer(Streams.WebBody(Walk(5)));
            _stream.Seed = 42;
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            Assert.That(_log, Is.EqualTo(new[] { "plan 1. walk", "finished 20" }));
            // 19 steps of 5 cm ahead.
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 0.95f));
            Near.AssertEqual(_rig.Joints[0].position, new Vector3(0, Rig.RestHipsM, 0.95f));
            Assert.That(_stream.IsPlaying, Is.False);
            var request = StreamMotionRequest.Parse(_transports[0].Request.Body.AsSpan(GrpcBody.PrefixLength));
            Assert.That((request.Prompt, request.Seed, request.Reasoning),
                Is.EqualTo(("a person walks forward", 42UL, Reasoning.On)));
        }

        [Test]
        public void AStreamLongerThanTheBufferHoldsBackTheNetwork()
        {
            Answer(Streams.WebBody(Walk(50)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 200"));
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 199 * 0.05f));
            Assert.That(_log, Has.No.Member("underrun"));
        }

        [Test]
        public void WhatCameBeforeAFailureIsPlayedAndTheFailureIsSaid()
        {
            Answer(Streams.WebBody(Walk(3).Take(5), "grpc-status: 13\r\ngrpc-message: going down\r\n"));
            Call("OnEnable");
            Play(() => _log.Contains("failed Internal") && _rig.Root.position.z > 0.5f && !_stream.IsPlaying);
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 11 * 0.05f));
            Assert.That(_log, Has.No.Member("finished 12"));
            Assert.That(Debug.Errors.Single(), Does.Contain("going down").And.Contain("a person walks forward"));
        }

        [Test]
        public void RunningDryIsSaidOnce()
        {
            Answer(Streams.WebBody(Walk(3).Take(5), null)).HangsAtEnd = true;
            Call("OnEnable");
            Play(() => _log.Contains("underrun"));
            for (int i = 0; i < 30; i++) Tick();
            Assert.That(_log.Count(line => line == "underrun"), Is.EqualTo(1));
            Assert.That(_stream.IsPlaying, Is.True);
        }

        [Test]
        public void AnotherSentenceTakesOverFromWhereTheCharacterStands()
        {
            Answer(Streams.WebBody(Walk(3).Take(5), null)).HangsAtEnd = true;
            Call("OnEnable");
            Play(() => _stream.IsPlaying && _rig.Root.position.z > 0.2f);
            float reached = _rig.Root.position.z;
            Answer(Streams.WebBody(Walk(2)));
            _stream.Say("a person turns");
            Play(() => _log.Contains("finished 8"));
            Assert.That(_transports[0].ResponseDisposed, Is.True);
            Assert.That(_rig.Root.position.z, Is.InRange(reached + 7 * 0.05f - 1e-4f, 0.55f + 7 * 0.05f + 1e-4f));
            Assert.That(_log, Has.No.Member("failed Cancelled"));
        }

        [Test]
        public void ASentenceThatFailsLeavesOnScreenWhatIsThere()
        {
            _stream.AtEnd = EndOfMotion.Hold;
            Answer(Streams.WebBody(Walk(3).Take(5), null)).HangsAtEnd = true;
            Call("OnEnable");
            Play(() => _rig.Root.position.z > 0.2f);
            Answer(Streams.WebBody(Walk(2).Take(1), "grpc-status: 8\r\n"));
            _stream.Say("a person turns");
            Play(() => _log.Contains("failed ResourceExhausted") && _rig.Root.position.z > 0.549f);
            _rig.Joints[5].localRotation = Quaternion.AngleAxis(33, Vector3.up);
            var before = _rig.Joints[5].localRotation;
            Tick();
            Assert.That(Math.Abs(Quaternion.Dot(_rig.Joints[5].localRotation, before)), Is.LessThan(0.999f), "held");
        }

        [Test]
        public void DisablingReleasesTheCallAndTheRig()
        {
            Answer(Streams.WebBody(Walk(3).Take(5), null)).HangsAtEnd = true;
            Call("OnEnable");
            Play(() => _stream.IsPlaying);
            Call("OnDisable");
            Assert.That(_transports[0].ResponseDisposed, Is.True);
            var before = _rig.Joints[5].localRotation = Quaternion.AngleAxis(33, Vector3.up);
            for (int i = 0; i < 5; i++) Tick();
            Near.AssertEqual(_rig.Joints[5].localRotation, before);
            Assert.That(_log, Is.EqualTo(new[] { "plan 1. walk" }));
            Assert.That(() => _stream.Say("on"), Throws.InvalidOperationException);
        }

        [Test]
        public void ARigThatCannotBeBoundIsAFailureWithItsReason()
        {
            _rig.Joints[0].name = "optimized away";
            Answer(Streams.WebBody(Walk(2)));
            Call("OnEnable");
            Play(() => _log.Count > 0);
            Assert.That(_log, Is.EqualTo(new[] { "failed FailedPrecondition" }));
            Assert.That(Debug.Errors.Single(), Does.Contain("Optimize Game Objects"));
        }

        [Test]
        public void WithoutPlayOnEnableNothingIsCalled()
        {
            var transport = Answer(Array.Empty<byte>());
            _stream.PlayOnEnable = false;
            Call("OnEnable");
            Tick();
            Assert.That(transport.Request, Is.Null);
        }

        [Test]
        public void FirstFrameAndBeatsAreSaidWhenTheyAreOnScreen()
        {
            _stream.FirstFrame.AddListener(() => _log.Add("first frame"));
            _stream.BeatStarted.AddListener(beat => _log.Add($"{beat.Text} at {_stream.Recording.Chunks.Count > 0}"));
            var events = Walk(5);
            events[1].Plan.Beats.Add(new Beat { Text = "walk", DurationS = 0.5f });
            events[1].Plan.Beats.Add(new Beat { Text = "stop", DurationS = 0.5f });
            Answer(Streams.WebBody(events));
            Call("OnEnable");
            Play(() => _log.Contains("stop at True"));
            Assert.That(_log, Is.EqualTo(new[] { "plan 1. walk", "first frame", "walk at True", "stop at True" }));
            Assert.That(_rig.Root.position.z, Is.InRange(0.5f - 1e-6f, 0.6f), "10 frames of 5 cm, less a float's rounding");
        }

        [Test]
        public void WhatIsSaidAtTheFirstFrameIsActedOut()
        {
            Answer(Streams.WebBody(Walk(5).Take(7), null)).HangsAtEnd = true;
            var next = Answer(Streams.WebBody(Walk(2)));
            _stream.FirstFrame.AddListener(() =>
            {
                if (next.Request == null) _stream.Say("a person turns");
            });
            Call("OnEnable");
            Play(() => _log.Contains("finished 8"));
            Assert.That(Sent(1).Prompt, Is.EqualTo("a person turns"));
            Assert.That(_transports[0].ResponseDisposed, Is.True);
        }

        [Test]
        public void ATurnAtTheFirstFrameGoesOnFromIt()
        {
            Answer(Streams.WebBody(Walk(5).Take(7), null)).HangsAtEnd = true;
            var limits = Answer(Model(maxHistoryCodes: 32));
            Answer(Streams.WebBody(Walk(3, 4)));
            _stream.FirstFrame.AddListener(() =>
            {
                if (limits.Request == null) _stream.Steer("a person turns");
            });
            Call("OnEnable");
            Play(() => _log.Contains("finished 16"));
            Assert.That(Sent(2).History.Codes, Is.EqualTo(new[] { Streams.FirstCode }));
            Assert.That(_log, Has.None.StartWith("failed"));
        }

        [Test]
        public void AfterTheLastFrameTheRigFadesBackToTheAnimator()
        {
            Answer(Streams.WebBody(Walk(5)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            var idle = Quaternion.AngleAxis(33, Vector3.up);
            for (int i = 0; i < 30; i++) Tick(() => _rig.Joints[5].localRotation = idle);
            Near.AssertEqual(_rig.Joints[5].localRotation, idle);
            Assert.That(_stream.Origin, Is.EqualTo(MotionOrigin.Idle));
        }

        [Test]
        public void WhereFramesAreLateTheRigFadesToTheAnimatorAndComesBack()
        {
            var slow = Answer(Streams.WebBody(Walk(5)));
            slow.WaitsAt = Streams.WebBody(Walk(5).Take(5), null).Length;
            Call("OnEnable");
            Play(() => _log.Contains("underrun"));
            var idle = Quaternion.AngleAxis(33, Vector3.up);
            for (int i = 0; i < 60; i++) Tick(() => _rig.Joints[5].localRotation = idle);
            Near.AssertEqual(_rig.Joints[5].localRotation, idle);
            slow.GoOn();
            Play(() => _log.Contains("finished 20"), () => _rig.Joints[5].localRotation = idle);
            Assert.That(Math.Abs(Quaternion.Dot(_rig.Joints[5].localRotation, idle)), Is.LessThan(0.999f));
        }

        [Test]
        public void ABrokenStreamIsTakenUpWhereItBroke()
        {
            Answer(Streams.WebBody(Walk(5).Take(5), "grpc-status: 14\r\n"));
            Answer(Model(maxHistoryCodes: 2));
            Answer(Streams.WebBody(Walk(2, 12)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 19 * 0.05f));
            var history = Sent(2).History;
            Assert.That(history.Codes, Is.EqualTo(new[] { Streams.FirstCode + 1, Streams.FirstCode + 2 }));
            Assert.That(history.Root.ZM, Is.EqualTo(12));
            Assert.That(_log, Has.None.StartWith("failed"));
        }

        [Test]
        public void OfAStreamThatIsTakenUpPlanAndBeatsAreSaidOnce()
        {
            _stream.BeatStarted.AddListener(beat => _log.Add(beat.Text));
            Answer(Streams.WebBody(Planned(Walk(5), ("walk", 0.5f), ("stop", 0.5f)).Take(5), "grpc-status: 14\r\n"));
            Answer(Model(maxHistoryCodes: 2));
            Answer(Streams.WebBody(Planned(Walk(2, 12), ("stop", 0.4f))));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            Assert.That(Sent(2).Beats.Select(beat => (beat.Text, beat.DurationS)), Is.EqualTo(new[] { ("stop", 0.4f) }));
            Assert.That(_log, Is.EqualTo(new[] { "plan 1. walk", "walk", "stop", "finished 20" }));
        }

        [Test]
        public void AServerThatIsAwayForLongerThanOneAttemptIsAskedAgain()
        {
            Answer(Streams.WebBody(Walk(5).Take(5), "grpc-status: 14\r\n"));
            for (int i = 0; i < 2; i++) Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            Answer(Model(maxHistoryCodes: 2));
            Answer(Streams.WebBody(Walk(2, 12)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            Assert.That(_log, Has.None.StartWith("failed"));
        }

        [Test]
        public void ServersThatStayAwayAreGivenUp()
        {
            Answer(Streams.WebBody(Walk(5).Take(5), "grpc-status: 14\r\n"));
            Answer(Model(maxHistoryCodes: 2));
            for (int i = 0; i < 3; i++) Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            Call("OnEnable");
            Play(() => _log.Contains("failed Unavailable"));
            Assert.That(_transports.Count(transport => transport.Request != null), Is.EqualTo(5));
        }

        [Test]
        public void ATurnGoesOnFromTheCodesThatAreShown()
        {
            _stream.Seed = 9;
            Answer(Streams.WebBody(Walk(9).Take(11), null)).HangsAtEnd = true;
            Answer(Model(maxHistoryCodes: 32));
            Answer(Streams.WebBody(Walk(3, 4 * 3)));
            Call("OnEnable");
            Play(() => _rig.Root.position.z > 0.35f);  // frame 7
            _stream.Steer("a person turns");
            Play(() => _log.Contains("finished 24"));
            var sent = Sent(2);
            // Frame 7 is on screen, so 9 is the first that may be replaced, and 12 the first of a code; the script answers
            // at once, so nothing has to bridge the time until it does.
            Assert.That(sent.History.Codes, Is.EqualTo(Enumerable.Range(0, 3).Select(i => Streams.FirstCode + i)));
            Assert.That(sent.History.Root.ZM, Is.EqualTo(12));
            Assert.That((sent.Prompt, sent.Seed), Is.EqualTo(("a person turns", 9UL)));
            Assert.That(_transports[0].ResponseDisposed, Is.True);
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 23 * 0.05f));
            Assert.That(_log, Has.No.Member("underrun"));
        }

        [Test]
        public void ATurnWhoseCallBreaksBeforeItAnswersIsStillTheTurn()
        {
            var before = Planned(Walk(9), ("walk", 0.9f), ("stop", 0.9f));
            Answer(Streams.WebBody(before.Take(11), null)).HangsAtEnd = true;
            Answer(Model(maxHistoryCodes: 32));
            Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            Answer(Streams.WebBody(Planned(Walk(3, 4 * 3), ("turn", 0.6f))));
            Call("OnEnable");
            Play(() => _rig.Root.position.z > 0.35f);  // frame 7
            _stream.Steer("a person turns");
            Play(() => _log.Contains("finished 24"));
            Assert.That((Sent(3).Prompt, Sent(3).Beats.Count), Is.EqualTo(("a person turns", 0)));
            Assert.That(Sent(3).History.Codes, Is.EqualTo(Sent(2).History.Codes).And.Count.EqualTo(3));
            Assert.That(_stream.Recording.Plan.Beats.Single().Text, Is.EqualTo("turn"));
        }

        [Test]
        public void ATurnThatAFullServerRefusesIsAskedForAgainWhenItSays()
        {
            Answer(Streams.WebBody(Walk(9).Take(11), null)).HangsAtEnd = true;
            Answer(Model(maxHistoryCodes: 32));
            var full = Answer(Array.Empty<byte>());
            (full.Headers["grpc-status"], full.Headers["grpc-status-details-bin"]) = ("8", SteeringTests.RetryAfter(3));
            var free = Answer(Streams.WebBody(Walk(3, 4 * 3)));
            Call("OnEnable");
            Play(() => _rig.Root.position.z > 0.35f);  // frame 7
            _stream.Steer("a person turns");
            Play(() => full.Request != null);
            double refusedS = Time.realtimeSinceStartupAsDouble;
            Play(() => free.Request != null);
            Assert.That(Time.realtimeSinceStartupAsDouble - refusedS, Is.EqualTo(3).Within(2 * FrameS));
            Play(() => _log.Contains("finished 24"));
            Assert.That(Sent(3).ToBytes(), Is.EqualTo(Sent(2).ToBytes()));
            Assert.That(_log, Has.None.StartWith("failed"));
        }

        [Test]
        public void AServerThatAsksForTwoMinutesIsGivenUpAtOnce()
        {
            Answer(Streams.WebBody(Walk(9).Take(11), null)).HangsAtEnd = true;
            Answer(Model(maxHistoryCodes: 32));
            var full = Answer(Array.Empty<byte>());
            (full.Headers["grpc-status"], full.Headers["grpc-status-details-bin"]) =
                ("8", SteeringTests.RetryAfter(120));
            Call("OnEnable");
            Play(() => _rig.Root.position.z > 0.35f);  // frame 7
            _stream.Steer("a person turns");
            Play(() => _log.Contains("failed ResourceExhausted"));
        }

        [Test]
        public void ATurnWithNothingOnScreenIsAFirstSentence()
        {
            Answer(Streams.WebBody(Walk(2)));
            _stream.PlayOnEnable = false;
            Call("OnEnable");
            _stream.Steer("a person walks");
            Play(() => _log.Contains("finished 8"));
            Assert.That(Sent(0).History, Is.Null);
        }

        [Test]
        public void WithoutABridgeTheSameSentenceIsPlayedFromTheCache()
        {
            Answer(Streams.WebBody(Walk(5)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            float reached = _rig.Root.position.z;
            Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            _stream.Say(_stream.Prompt);
            Play(() => _stream.Origin == MotionOrigin.Cache);
            Play(() => _rig.Root.position.z > reached + 18.9f * 0.05f);
            Assert.That(_log, Has.Member("failed Unavailable"));

            // Another sentence was never seen: the Animator goes on.
            Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            _stream.Say("a person dances");
            for (int i = 0; i < 60; i++) Tick();
            Assert.That(_stream.Origin, Is.EqualTo(MotionOrigin.Idle));
        }

        [Test]
        public void BeatsOfOurOwnAreSentAsThePlan()
        {
            Answer(Streams.WebBody(Walk(2)));
            _stream.PlayOnEnable = false;
            Call("OnEnable");
            _stream.Say("", new[] { new Beat { Text = "walk", DurationS = 0.4f } });
            Play(() => _log.Contains("finished 8"));
            Assert.That(Sent(0).Beats.Single().Text, Is.EqualTo("walk"));
            Assert.That(Sent(0).Pacing.Mode, Is.EqualTo(PacingMode.Realtime));
        }

        [Test]
        public void ACallbackWithoutAnybodyWhoWalksIsWarnedAbout()
        {
            Answer(Streams.WebBody(Walk(2)));
            _stream.RootMotion = RootMotionMode.Callback;
            Call("OnEnable");
            Play(() => _log.Contains("finished 8"));
            Assert.That(Debug.Warnings.Single(), Does.Contain("MoveRoot"));
            Near.AssertEqual(_rig.Root.position, Vector3.zero);
        }

        [Test]
        public void AControllerThatIsNotThereIsWarnedAboutAndFoundWhereTheNextMotionBegins()
        {
            Answer(Streams.WebBody(Walk(2)));
            _stream.RootMotion = RootMotionMode.CharacterController;
            Call("OnEnable");
            Play(() => _log.Contains("finished 8"));
            Assert.That(Debug.Warnings.Single(), Does.Contain("CharacterController").And.Contain("nobody walks"));
            Near.AssertEqual(_rig.Root.position, Vector3.zero);

            _rig.Root.gameObject.AddComponent<CharacterController>();
            Answer(Streams.WebBody(Walk(5)));
            _stream.Say("a person walks");
            Play(() => _log.Contains("finished 20"));
            Near.AssertEqual(_rig.Root.position, new Vector3(0, 0, 19 * 0.05f));
            Assert.That(Debug.Warnings.Count, Is.EqualTo(1));
        }

        [Test]
        public void AGameDoesNotWaitForTheDisk()
        {
            string file = Kept(out var bytes);
            File.Delete(file);
            MakePipe(file + ".part");  // takes what is written when somebody reads, and not before
            using var finished = new ManualResetEventSlim();
            var read = Task.Run(() =>
            {
                finished.Wait(TimeSpan.FromSeconds(10));
                return File.ReadAllBytes(file + ".part");
            });
            Answer(Streams.WebBody(Walk(5)));
            _stream.Say(_stream.Prompt);
            Play(() => _log.Count(line => line == "finished 20") == 2);
            Assert.That(read.IsCompleted, Is.False);
            finished.Set();
            Assert.That(read.Result, Is.EqualTo(bytes));
            Assert.That(SpinWait.SpinUntil(() => File.Exists(file), TimeSpan.FromSeconds(20)), Is.True, "under its name");
        }

        [Test]
        public void AMotionWhoseFileIsGoneOnceItIsReadIsPlayed()
        {
            string file = Kept(out var bytes);
            File.Delete(file);
            MakePipe(file);  // gives what is written to it, here when the file is no longer there
            var written = Task.Run(() =>
            {
                using var pipe = new FileStream(file, FileMode.Open, FileAccess.Write);
                File.Delete(file);
                pipe.Write(bytes, 0, bytes.Length);
            });
            _stream.Cache = new MotionCache(folder: _folder);
            Answer(Array.Empty<byte>()).Headers["grpc-status"] = "14";
            _stream.Say(_stream.Prompt);
            Play(() => _stream.Origin == MotionOrigin.Cache);
            written.Wait();
            Assert.That((File.Exists(file), Debug.Warnings.Count), Is.EqualTo((false, 0)));
        }

        // Plays five codes and waits until they are on disk.
        string Kept(out byte[] bytes)
        {
            _stream.Cache = new MotionCache(folder: _folder);
            Answer(Streams.WebBody(Walk(5)));
            Call("OnEnable");
            Play(() => _log.Contains("finished 20"));
            bool IsKept() => Directory.Exists(_folder) &&
                Directory.GetFiles(_folder).Select(Path.GetExtension).SequenceEqual(new[] { MotionCache.Extension });
            Assert.That(SpinWait.SpinUntil(IsKept, TimeSpan.FromSeconds(20)), Is.True);
            string file = Directory.GetFiles(_folder).Single();
            bytes = File.ReadAllBytes(file);
            return file;
        }

        static void MakePipe(string path)
        {
            using var make = System.Diagnostics.Process.Start("mkfifo", path);
            make.WaitForExit();
            Assert.That(make.ExitCode, Is.Zero);
        }

        StreamMotionRequest Sent(int call) =>
            StreamMotionRequest.Parse(_transports[call].Request.Body.AsSpan(GrpcBody.PrefixLength));

        static byte[] Model(int maxHistoryCodes)
        {
            var response = new GetModelResponse
            {
                Model = new Model { WireVersion = MotionClient.WireVersion },
                Limits = new Limits { MaxHistoryCodes = maxHistoryCodes },
            };
            return GrpcBody.Frame(response).Concat(Streams.WebBody(Array.Empty<MotionEvent>())).ToArray();
        }

        ScriptedTransport Answer(byte[] body)
        {
            var transport = new ScriptedTransport(body, 700);
            _transports.Add(transport);
            // The component opens one transport and keeps it: what it answers changes from call to call.
            _stream.OpenTransport = () => new Switchboard(_transports);
            return transport;
        }

        void Play(Func<bool> until, Action animator = null)
        {
            for (int i = 0; i < 2000 && !until(); i++) Tick(animator);
            Assert.That(until(), Is.True, string.Join(", ", _log));
        }

        void Tick() => Tick(null);

        void Tick(Action animator)
        {
            Time.deltaTime = FrameS;
            Time.realtimeSinceStartupAsDouble += FrameS;
            _main.Run();
            animator?.Invoke();
            Call("LateUpdate");
        }

        void Call(string message)
        {
            const BindingFlags flags = BindingFlags.Instance | BindingFlags.NonPublic;
            typeof(MotionStream).GetMethod(message, flags).Invoke(_stream, null);
        }

        // 5 cm ahead a frame, every joint at rest; after a history, from where that ends.
        static List<MotionEvent> Walk(int numCodes, int after = 0)
        {
            int numJoints = Rig.Names.Length;
            var events = Streams.Complete(numCodes);
            var header = Streams.Header(numJoints);
            var skeleton = header.Model.Skeleton;
            skeleton.JointNames.Clear();
            skeleton.JointNames.AddRange(Rig.Names);
            skeleton.Parents.Clear();
            skeleton.Parents.AddRange(Rig.Parents);
            skeleton.RestRootHeightM = Rig.RestHipsM;
            events[0] = new MotionEvent { Header = header };
            events[1].Plan.Text = "1. walk";
            foreach (var old in events.Where(e => e.Chunk != null))
            {
                int first = old.Chunk.FirstFrame;
                old.Chunk = Streams.Chunk(first, numJoints: numJoints);
                old.Chunk.RootPositionsM = Streams.Bytes(Enumerable.Range(after + first, Streams.FramesPerCode)
                    .SelectMany(frame => new[] { 0, Rig.RestHipsM, 0.05f * frame }).ToArray());
            }
            return events;
        }

        static List<MotionEvent> Planned(List<MotionEvent> events, params (string text, float durationS)[] beats)
        {
            foreach (var (text, durationS) in beats)
                events[1].Plan.Beats.Add(new Beat { Text = text, DurationS = durationS });
            return events;
        }

        /// <summary>Answers each call with the next script.</summary>
        sealed class Switchboard : IByteTransport
        {
            readonly List<ScriptedTransport> _scripts;
            int _next;

            public Switchboard(List<ScriptedTransport> scripts) => _scripts = scripts;

            public GrpcProtocol Protocol => GrpcProtocol.Web;

            public Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation) =>
                _scripts[_next++].SendAsync(request, cancellation);

            public void Dispose()
            {
            }
        }
    }
}
