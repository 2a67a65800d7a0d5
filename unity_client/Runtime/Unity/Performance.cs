using System;
using System.Collections.Generic;
using System.Threading;
using MotionR1.Core;
using MotionR1.Core.V1;

namespace MotionR1
{
    /// <summary>One motion on its way: from its call to its last frame, through turns and resumptions.</summary>
    sealed class Performance : IDisposable
    {
        readonly List<(double startS, Beat beat)> _cues = new List<(double, Beat)>();
        CancellationTokenSource _call = new CancellationTokenSource();
        int _nextCue;
        int _numUnderruns;
        bool _finishTaken;

        /// <summary>What was asked for.</summary>
        public Performance(StreamMotionRequest request) => Request = request;

        public StreamMotionRequest Request { get; private set; }

        /// <summary>Everything that came.</summary>
        public RecordedMotion Recording { get; } = new RecordedMotion();

        public PlaybackBuffer Buffer { get; private set; }

        public MotionFrame Frame { get; private set; }

        public MotionOrigin Origin { get; set; } = MotionOrigin.Stream;

        /// <summary>Whether it does what its first request asked for, and nothing else since.</summary>
        public bool IsSteered { get; private set; }

        /// <summary>Ends the call that runs now.</summary>
        public CancellationToken Call => _call.Token;

        public bool HasFrames => Buffer != null && Buffer.HasFrames;

        public bool IsFinished => Buffer != null && Buffer.State == PlaybackState.Finished;

        public void Open(StreamHeader header)
        {
            if (Buffer != null) return;
            float? leadS = header.Pacing?.MaxLeadS;
            Buffer = leadS > 0 ? new PlaybackBuffer(header, leadS.Value) : new PlaybackBuffer(header);
            Frame = new MotionFrame(Buffer.NumJoints);
        }

        public void Plan(Plan plan)
        {
            double startS = Recording.PlanFirstFrame / (double)Recording.Header.Model.FrameRateHz;
            foreach (var beat in plan.Beats)
            {
                _cues.Add((startS, beat));
                startS += beat.DurationS;
            }
        }

        public PlaybackState Advance(double deltaS) => Buffer?.Advance(deltaS, Frame) ?? PlaybackState.Waiting;

        /// <summary>Begins another turn: ends the call, keeps what is shown and what will be in the next
        /// <paramref name="aheadS"/>, and drops the rest.</summary>
        public void Steer(StreamMotionRequest request, double aheadS)
        {
            (Request, IsSteered, _finishTaken) = (request, true, false);
            int framesPerCode = Recording.Header.Model.FramesPerCode;
            double frame = Buffer.FirstReplaceableFrame + aheadS * Buffer.FrameRateHz;
            int code = (int)Math.Min(Math.Ceiling(frame / framesPerCode), Buffer.NumReceived / framesPerCode);
            Renew();
            Buffer.ReplaceFrom(code * framesPerCode);
            Recording.BeginTurn(code);
            double startS = code * framesPerCode / Buffer.FrameRateHz;
            _cues.RemoveAll(cue => cue.startS >= startS);
            _nextCue = Math.Min(_nextCue, _cues.Count);
        }

        public bool TakeBeat(out Beat beat)
        {
            beat = null;
            if (_nextCue >= _cues.Count || Buffer.PlayheadS < _cues[_nextCue].startS) return false;
            beat = _cues[_nextCue++].beat;
            return true;
        }

        public bool TakeUnderrun()
        {
            bool more = Buffer.NumUnderruns > _numUnderruns;
            _numUnderruns = Buffer.NumUnderruns;
            return more;
        }

        public bool TakeFinish(out StreamSummary summary)
        {
            summary = Recording.Summary;
            if (_finishTaken || summary == null || !IsFinished) return false;
            return _finishTaken = true;
        }

        /// <summary>Ends the call; what is here is played to its end.</summary>
        public void Dispose()
        {
            _call.Cancel();
            Buffer?.End();
        }

        void Renew()
        {
            _call.Cancel();
            _call = new CancellationTokenSource();
        }
    }
}
