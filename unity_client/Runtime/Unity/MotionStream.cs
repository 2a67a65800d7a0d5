using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Makes a humanoid act out a sentence. Everything happens on the main thread: calls are awaited, and
    /// Unity continues them there. Where the bridge fails, the same request's last motion is played; where there is none,
    /// the Animator goes on.</summary>
    [AddComponentMenu("Motion-R1/Motion Stream"), RequireComponent(typeof(Animator)), DisallowMultipleComponent]
    public sealed partial class MotionStream : MonoBehaviour
    {
        // Until one is measured: how long the first frames of a call take.
        const double FirstFramesS = 0.5;
        static readonly double[] ResumeAfterS = { 0.5, 1, 2 };

        // A server that asks for more than this is given up: a character that waits on is none.
        const double LongestWaitS = 10;

        MotionClient _client;
        MotionCache _cache;
        Limits _limits;
        HumanoidRetargeter _retargeter;
        Skeleton _skeleton;
        Performance _called;  // what was said last, until it is on screen
        Performance _shown;   // what is on screen
        double _firstFramesS = FirstFramesS;

        /// <summary>Acts out another sentence, from the character's first pose on. What is on screen goes on until the new
        /// motion is there, and passes over into it.</summary>
        /// <param name="prompt">What the character does.</param>
        /// <param name="beats">The plan to act out, if the model should not write its own.</param>
        public void Say(string prompt, IEnumerable<Beat> beats = null)
        {
            RequireClient();
            _called?.Dispose();
            _shown?.Dispose();
            _called = new Performance(Request(prompt, beats));
            Perform(_called, _called.Call);
        }

        /// <summary>Goes on with another sentence from what the character is doing now, without a seam: the model gets the
        /// codes of what is shown. Without anything on screen it is <see cref="Say"/>.</summary>
        public void Steer(string prompt, IEnumerable<Beat> beats = null)
        {
            RequireClient();
            if (_called != null || _shown == null || !_shown.HasFrames || _shown.IsFinished ||
                _shown.Origin != MotionOrigin.Stream)
            {
                Say(prompt, beats);
                return;
            }
            _shown.Steer(Request(prompt, beats), _firstFramesS);
            Perform(_shown, _shown.Call);
        }

        /// <summary>Ends what is called and what is shown, and leaves the rig to the Animator.</summary>
        public void Stop()
        {
            _called?.Dispose();
            _shown?.Dispose();
            _called = _shown = null;
            _retargeter?.EndMotion();
        }

        void OnEnable()
        {
            string roots = _rootCertificates == null ? null : _rootCertificates.text;
            _client = new MotionClient(OpenTransport != null ? OpenTransport() : Transports.Open(_address, roots), _token);
            _limits = null;
            if (_playOnEnable) Say(_prompt);
        }

        void OnDisable()
        {
            Stop();
            _client?.Dispose();
            _client = null;
        }

        void LateUpdate()
        {
            float deltaS = Time.deltaTime;
            _shown?.Advance(deltaS);
            if (_called != null && _called.Advance(deltaS) != PlaybackState.Waiting)
            {
                var called = _called;
                _called = null;
                // A call that ended without a frame leaves on screen what is there.
                if (called.HasFrames) Show(called);
            }
            if (_shown == null) return;

            bool over = _shown.IsFinished;
            float idle = over && _atEnd == EndOfMotion.Hold ? 0 : (float)_shown.Buffer.IdleWeight;
            (_retargeter.RootMotion.Mode, _retargeter.RootMotion.Moved) = (_rootMotion, MoveRoot);
            _retargeter.LockFeet = _lockFeet;
            _retargeter.Apply(_shown.Frame, deltaS, idle);
            Tell(_shown);
            if (over && idle >= 1 && _shown != null && _called == null)
            {
                _shown = null;
                _retargeter.EndMotion();
            }
        }

        void Show(Performance performance)
        {
            _shown = performance;
            _retargeter.BeginMotion();
            if (_rootMotion == RootMotionMode.Callback && MoveRoot == null)
                Debug.LogWarning("Motion-R1: Root Motion is Callback, but MoveRoot is not set: nobody walks", this);
            if (_rootMotion == RootMotionMode.CharacterController && _retargeter.RootMotion.Controller == null)
                Debug.LogWarning("Motion-R1: Root Motion is CharacterController, but none is beside the Animator: " +
                    "nobody walks", this);
            _firstFrame.Invoke();
        }

        // Whoever listens may say the next sentence, or stop.
        void Tell(Performance performance)
        {
            while (_shown == performance && performance.TakeBeat(out var beat)) _beatStarted.Invoke(beat);
            if (_shown == performance && performance.TakeUnderrun()) _underrun.Invoke();
            if (_shown == performance && performance.TakeFinish(out var summary)) _finished.Invoke(summary);
        }

        async void Perform(Performance performance, CancellationToken stop)
        {
            try
            {
                await Receive(performance, stop);
                if (_keepMotions && !performance.IsSteered) Keep(performance.Request, performance.Recording);
            }
            catch (Exception) when (stop.IsCancellationRequested)
            {
                // Asked for: another sentence, Stop, or the component is disabled.
            }
            catch (RpcException error)
            {
                Debug.LogError($"Motion-R1: '{performance.Request.Prompt}': {error.Message}", this);
                FallBack(performance);
                _failed.Invoke(error);
            }
            finally
            {
                // A call that another turn has replaced ends nothing.
                if (!stop.IsCancellationRequested) performance.Buffer?.End();
            }
        }

        async void Keep(StreamMotionRequest request, RecordedMotion motion)
        {
            try
            {
                await Write(Cache.AddInMemory(request, motion));
            }
            catch (Exception error) when (error is IOException || error is UnauthorizedAccessException)
            {
                Debug.LogWarning($"Motion-R1: the motion cannot be kept: {error.Message}", this);
            }
        }

        // A game does not wait for the disk, except in Web builds, which have no threads.
        static Task Write(Action file)
        {
#if UNITY_WEBGL && !UNITY_EDITOR
            file();
            return Task.CompletedTask;
#else
#pragma warning disable MR004 // not in Web builds
            return Task.Run(file);
#pragma warning restore MR004
#endif
        }

        // A turn and a stream that broke off are the same: what is there goes on.
        async Task Receive(Performance performance, CancellationToken stop)
        {
            var (recording, request) = (performance.Recording, performance.Request);
            for (int attempt = 0; ; attempt++)
            {
                int numBefore = recording.Chunks.Count;
                try
                {
                    bool goesOn = recording.NumFrames > 0;
                    var events = goesOn ? _client.ResumeAsync(recording, request, await GetLimits(stop), null, stop) :
                        _client.StreamMotionAsync(request, null, stop);
                    await Receive(performance, events, stop, recorded: goesOn);
                    return;
                }
                // A full server may still count the stream that a turn has just closed.
                catch (RpcException error) when (recording.NumFrames > 0 &&
                    (error.Code == StatusCode.Unavailable || error.Code == StatusCode.ResourceExhausted))
                {
                    if (recording.Chunks.Count > numBefore) attempt = 0;
                    double askedS = error.Details.RetryAfter?.TotalSeconds ?? 0;
                    if (attempt >= ResumeAfterS.Length || askedS > LongestWaitS) throw;
                    await Wait(Math.Max(ResumeAfterS[attempt], askedS), stop);
                }
            }
        }

        async Task Receive(Performance performance, IAsyncEnumerable<MotionEvent> events, CancellationToken stop,
            bool recorded)
        {
            double calledS = Time.realtimeSinceStartupAsDouble;
            bool first = true;
            await foreach (var next in events)
            {
                stop.ThrowIfCancellationRequested();
                if (!recorded) performance.Recording.Add(next);
                if (next.Header != null) Open(performance, next.Header);
                // Of a stream that is taken up, the plan is what was left of the one that is known.
                if (next.Plan != null && next.Plan == performance.Recording.Plan)
                {
                    performance.Plan(next.Plan);
                    _planReceived.Invoke(next.Plan);
                    stop.ThrowIfCancellationRequested();
                }
                if (next.Chunk == null) continue;
                if (first) _firstFramesS = Time.realtimeSinceStartupAsDouble - calledS;
                first = false;
                await Append(performance.Buffer, next.Chunk, stop);
            }
        }

        void Open(Performance performance, StreamHeader header)
        {
            try
            {
                performance.Open(header);
                var skeleton = header.Model.Skeleton;
                if (_skeleton != null && skeleton.ToBytes().AsSpan().SequenceEqual(_skeleton.ToBytes())) return;
                _retargeter = new HumanoidRetargeter(GetComponent<Animator>(), skeleton);
                _skeleton = skeleton;
            }
            catch (Exception error) when (error is InvalidOperationException || error is ArgumentException)
            {
                throw new RpcException(StatusCode.FailedPrecondition, error.Message, error);
            }
        }

        // The ladder: stream, the same request's last motion, idle.
        void FallBack(Performance performance)
        {
            if (_called != performance || performance.HasFrames) return;
            _called = null;
            try
            {
                if (!_keepMotions || !Cache.TryGet(performance.Request, out var motion)) return;
                _called = new Performance(performance.Request) { Origin = MotionOrigin.Cache };
                Replay(_called, motion, _called.Call);
            }
            catch (Exception error) when (error is WireFormatException || error is IOException ||
                error is UnauthorizedAccessException)
            {
                Debug.LogWarning($"Motion-R1: {error.Message}", this);
            }
        }

        async void Replay(Performance performance, RecordedMotion motion, CancellationToken stop)
        {
            try
            {
                foreach (var next in motion.Events())
                {
                    performance.Recording.Add(next);
                    if (next.Header != null) Open(performance, next.Header);
                    if (next.Plan != null) performance.Plan(next.Plan);
                    if (next.Chunk != null) await Append(performance.Buffer, next.Chunk, stop);
                }
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                // Asked for, as above.
            }
            catch (RpcException error)
            {
                Debug.LogError($"Motion-R1: '{performance.Request.Prompt}': {error.Message}", this);
            }
            finally
            {
                performance.Buffer?.End();
            }
        }

        // A full buffer holds back the network, and so the server.
        static async Task Append(PlaybackBuffer buffer, FrameChunk chunk, CancellationToken stop)
        {
            while (!buffer.TryAppend(chunk))
            {
                await Task.Yield();
                stop.ThrowIfCancellationRequested();
            }
        }

        async Task<Limits> GetLimits(CancellationToken stop) =>
            _limits ??= (await _client.GetModelAsync(null, stop)).Limits ?? new Limits();

        // Web builds have no timers.
        static async Task Wait(double seconds, CancellationToken stop)
        {
            double untilS = Time.realtimeSinceStartupAsDouble + seconds;
            while (Time.realtimeSinceStartupAsDouble < untilS)
            {
                await Task.Yield();
                stop.ThrowIfCancellationRequested();
            }
        }

        void RequireClient()
        {
            if (_client == null) throw new InvalidOperationException("the component is not enabled");
        }

        StreamMotionRequest Request(string prompt, IEnumerable<Beat> beats)
        {
            _prompt = prompt;
            var request = new StreamMotionRequest
            {
                Prompt = prompt,
                Seed = _seed,
                Reasoning = _reasoning,
                Pacing = new Pacing { Mode = PacingMode.Realtime },
            };
            if (beats != null) request.Beats.AddRange(beats);
            return request;
        }
    }
}
