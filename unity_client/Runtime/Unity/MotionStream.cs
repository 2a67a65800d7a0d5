using System;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Makes a humanoid act out a sentence. Everything happens on the main thread: calls are awaited, and
    /// Unity continues them there.</summary>
    [AddComponentMenu("Motion-R1/Motion Stream"), RequireComponent(typeof(Animator)), DisallowMultipleComponent]
    public sealed partial class MotionStream : MonoBehaviour
    {
        MotionClient _client;
        Performance _called;  // what was said last, until it is on screen
        Performance _shown;   // what is on screen

        /// <summary>Acts out another sentence. What is on screen goes on until the new motion is there.</summary>
        public void Say(string prompt)
        {
            if (_client == null) throw new InvalidOperationException("the component is not enabled");
            _prompt = prompt;
            _called?.Dispose();
            _shown?.Dispose();
            _called = new Performance();
            Receive(_called, new StreamMotionRequest { Prompt = prompt, Seed = _seed, Reasoning = _reasoning });
        }

        /// <summary>Ends what is called and what is shown, and leaves the rig to the Animator.</summary>
        public void Stop()
        {
            _called?.Dispose();
            _shown?.Dispose();
            _called = _shown = null;
        }

        void OnEnable()
        {
            _client = new MotionClient(OpenTransport != null ? OpenTransport() : DefaultTransport(), _token);
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
            _shown?.Advance(Time.deltaTime);
            if (_called != null && _called.Advance(Time.deltaTime) != PlaybackState.Waiting)
            {
                // A call that ended without a frame leaves on screen what is there.
                if (_called.HasFrames) _shown = _called;
                _called = null;
            }
            if (_shown == null) return;

            _shown.Retargeter.Mode = _rootMotion;
            _shown.Retargeter.Apply(_shown.Frame);
            if (_shown.TakeUnderrun()) _underrun.Invoke();
            if (_shown != null && _shown.TakeFinish(out var summary)) _finished.Invoke(summary);
        }

        async void Receive(Performance performance, StreamMotionRequest request)
        {
            var stop = performance.Stop;
            try
            {
                await foreach (var motionEvent in _client.StreamMotionAsync(request, null, stop))
                {
                    stop.ThrowIfCancellationRequested();
                    if (motionEvent.Header != null) performance.Open(motionEvent.Header, GetComponent<Animator>());
                    if (motionEvent.Plan != null) _planReceived.Invoke(motionEvent.Plan);
                    if (motionEvent.Chunk != null) await Append(performance.Buffer, motionEvent.Chunk, stop);
                    if (motionEvent.Summary != null) performance.Summary = motionEvent.Summary;
                }
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                // Asked for: another sentence, Stop, or the component is disabled.
            }
            catch (RpcException error)
            {
                Debug.LogError($"Motion-R1: '{request.Prompt}': {error.Message}", this);
                _failed.Invoke(error);
            }
            finally
            {
                performance.Buffer?.End();
            }
        }

        // A full buffer holds back the network, and so the server.
        static async Task Append(PlaybackBuffer buffer, FrameChunk chunk, CancellationToken stop)
        {
            double arrivalS = Time.realtimeSinceStartupAsDouble;
            while (!buffer.TryAppend(chunk, arrivalS))
            {
                await Task.Yield();
                stop.ThrowIfCancellationRequested();
            }
        }

        IByteTransport DefaultTransport()
        {
#if UNITY_WEBGL && !UNITY_EDITOR
            throw new NotSupportedException("browsers have no HttpClient: set MotionStream.OpenTransport");
#else
            return new HttpByteTransport(new Uri(_address));
#endif
        }

        /// <summary>One motion: from its call to its last frame.</summary>
        sealed class Performance : IDisposable
        {
            readonly CancellationTokenSource _stop = new CancellationTokenSource();
            int _numUnderruns;
            bool _finishTaken;

            public CancellationToken Stop => _stop.Token;

            public PlaybackBuffer Buffer { get; private set; }

            public HumanoidRetargeter Retargeter { get; private set; }

            public MotionFrame Frame { get; private set; }

            public StreamSummary Summary { get; set; }

            public bool HasFrames => Buffer != null && Buffer.HasFrames;

            public void Open(StreamHeader header, Animator animator)
            {
                try
                {
                    Retargeter = new HumanoidRetargeter(animator, header.Model.Skeleton);
                    Buffer = new PlaybackBuffer(header);
                    Frame = new MotionFrame(Buffer.NumJoints);
                }
                catch (Exception error) when (error is InvalidOperationException || error is ArgumentException)
                {
                    throw new RpcException(StatusCode.FailedPrecondition, error.Message, error);
                }
            }

            public PlaybackState Advance(double deltaS)
            {
                return Buffer == null ? PlaybackState.Waiting : Buffer.Advance(deltaS, Frame);
            }

            public bool TakeUnderrun()
            {
                bool more = Buffer.NumUnderruns > _numUnderruns;
                _numUnderruns = Buffer.NumUnderruns;
                return more;
            }

            public bool TakeFinish(out StreamSummary summary)
            {
                summary = Summary;
                if (_finishTaken || Summary == null || Buffer.State != PlaybackState.Finished) return false;
                return _finishTaken = true;
            }

            public void Dispose() => _stop.Cancel();
        }
    }
}
