using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEditor;

namespace MotionR1.Editor
{
    /// <summary>The calls that a window has open. None outlives a domain reload, a change of play mode, an undo or the
    /// window: a stream that is left open across a reload can freeze the editor.</summary>
    public sealed class OpenCalls : IDisposable
    {
        readonly Func<MotionClient> _open;
        CancellationTokenSource _stop = new CancellationTokenSource();
        MotionClient _client;

        /// <summary>Opens clients when they are needed.</summary>
        public OpenCalls(Func<MotionClient> open)
        {
            _open = open;
            AssemblyReloadEvents.beforeAssemblyReload += Dispose;
            EditorApplication.playModeStateChanged += OnPlayMode;
            EditorApplication.quitting += Dispose;
            Undo.undoRedoPerformed += Cancel;
        }

        /// <summary>Calls that are running.</summary>
        public int Num { get; private set; }

        /// <summary>Ends all calls; new ones may be made.</summary>
        public void Cancel()
        {
            _stop.Cancel();
            _stop = new CancellationTokenSource();
            _client?.Dispose();
            _client = null;
        }

        /// <summary>Ends all calls and listens to the editor no more.</summary>
        public void Dispose()
        {
            AssemblyReloadEvents.beforeAssemblyReload -= Dispose;
            EditorApplication.playModeStateChanged -= OnPlayMode;
            EditorApplication.quitting -= Dispose;
            Undo.undoRedoPerformed -= Cancel;
            Cancel();
        }

        /// <summary>Asks which model runs and what it takes.</summary>
        public Task<GetModelResponse> Model() => Run((client, stop) => client.GetModelAsync(null, stop));

        /// <summary>Plans a sentence.</summary>
        public Task<PlanMotionResponse> Plan(PlanMotionRequest request) =>
            Run((client, stop) => client.PlanMotionAsync(request, null, stop));

        /// <summary>Makes a motion, as fast as it goes.</summary>
        public Task<RecordedMotion> Make(StreamMotionRequest request) =>
            Run((client, stop) => Record(client.StreamMotionAsync(request, null, stop)));

        /// <summary>Keeps a motion's codes up to one and makes the rest anew.</summary>
        public Task<RecordedMotion> Remake(RecordedMotion motion, int fromCode, StreamMotionRequest request,
            Limits limits)
        {
            var copy = new RecordedMotion();
            foreach (var next in motion.Events()) copy.Add(MotionEvent.Parse(next.ToBytes()));
            return Run(async (client, stop) =>
            {
                await foreach (var _ in client.SteerAsync(copy, fromCode, request, limits, null, stop))
                    stop.ThrowIfCancellationRequested();
                return copy;
            });
        }

        /// <summary>Makes a motion from its codes.</summary>
        public Task<RecordedMotion> Decode(DecodeMotionRequest request) =>
            Run((client, stop) => Record(client.DecodeMotionAsync(request, null, stop)));

        static async Task<RecordedMotion> Record(IAsyncEnumerable<MotionEvent> events)
        {
            var motion = new RecordedMotion();
            await foreach (var next in events) motion.Add(next);
            return motion;
        }

        async Task<T> Run<T>(Func<MotionClient, CancellationToken, Task<T>> call)
        {
            var stop = _stop.Token;
            _client ??= _open();
            Num++;
            try
            {
                return await call(_client, stop);
            }
            catch (ObjectDisposedException error) when (stop.IsCancellationRequested)
            {
                throw new OperationCanceledException("the call was cancelled", error, stop);
            }
            finally
            {
                Num--;
            }
        }

        void OnPlayMode(PlayModeStateChange change) => Cancel();
    }
}
