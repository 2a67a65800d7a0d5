using System;
using System.Collections.Concurrent;
using System.Threading;

namespace MotionR1.Tests
{
    /// <summary>Continues what is awaited when it is told to, on this thread, as Unity does.</summary>
    sealed class MainThread : SynchronizationContext, IDisposable
    {
        readonly ConcurrentQueue<Action> _waiting = new ConcurrentQueue<Action>();
        readonly SynchronizationContext _before = Current;

        public MainThread() => SetSynchronizationContext(this);

        public override void Post(SendOrPostCallback call, object state) => _waiting.Enqueue(() => call(state));

        public void Run()
        {
            for (int i = _waiting.Count; i > 0 && _waiting.TryDequeue(out var call); i--) call();
        }

        public void Dispose() => SetSynchronizationContext(_before);
    }
}
