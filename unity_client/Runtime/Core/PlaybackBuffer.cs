using System;
using System.Numerics;
using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>Where playback stands.</summary>
    public enum PlaybackState
    {
        /// <summary>Not enough frames to start.</summary>
        Waiting,
        /// <summary>Moving.</summary>
        Playing,
        /// <summary>Ran dry: the last frame is held until there is a lead again.</summary>
        Underrun,
        /// <summary>The last frame of a stream that has ended; or a stream that ended without any.</summary>
        Finished,
    }

    /// <summary>Plays frames by the client's clock, whenever they arrive. A ring, sized once: the network appends, the
    /// game advances, from any two threads; no call allocates.</summary>
    public sealed class PlaybackBuffer
    {
        /// <summary>Share of speed by which playback slows down or hurries, at most, to keep its delay.</summary>
        public const double MaxCorrection = 0.1;

        /// <summary>How long a pose is held when frames are late, before it fades into idle, seconds.</summary>
        public const double HoldS = 0.25;

        /// <summary>How long fading into idle takes, and coming back, seconds.</summary>
        public const double FadeS = 0.3;

        const double MinLeadFrames = 1.6;  // one to interpolate towards, the rest for ticks and the latest chunks
        const int RingLeads = 2;
        const int FirstReplaceable = 2;
        const double FullCorrectionS = 0.05;  // off by that much, playback corrects by all that it may

        readonly object _lock = new object();
        readonly FrameReader _reader;
        readonly Lateness _lateness = new Lateness();
        readonly double _rateHz;
        readonly int _capacity;
        readonly Vector3[] _roots;
        readonly Quaternion[] _rotations;
        readonly FootContacts[] _contacts;

        int _numReceived;
        int _numChunks;      // since the start, or since frames were replaced
        bool _ended;
        double _clockS;
        double _playhead;    // in frames
        double _minDelayS;   // what playback began with: a server that runs ahead is not caught up with
        double _heldS;

        /// <summary>An empty buffer for the stream that <paramref name="header"/> opens.</summary>
        /// <param name="header">The stream's own.</param>
        /// <param name="maxLeadS">How far the server runs ahead of the clock, seconds.</param>
        public PlaybackBuffer(StreamHeader header, double maxLeadS = 1.0)
        {
            _reader = new FrameReader(header);
            _rateHz = _reader.FrameRateHz;
            int framesPerCode = _reader.FramesPerCode;
            double maxLeadFrames = maxLeadS * _rateHz;
            if (!(maxLeadFrames >= MinLeadFrames + framesPerCode))
                throw new ArgumentOutOfRangeException(nameof(maxLeadS),
                    $"expected at least {(MinLeadFrames + framesPerCode) / _rateHz} s, got {maxLeadS}");
            _capacity = RingLeads * ((int)Math.Ceiling(maxLeadFrames) + framesPerCode);
            _roots = new Vector3[_capacity];
            _rotations = new Quaternion[_capacity * _reader.NumJoints];
            _contacts = new FootContacts[_capacity];
        }

        /// <summary>Joints of each frame.</summary>
        public int NumJoints => _reader.NumJoints;

        /// <summary>Frames a second.</summary>
        public double FrameRateHz => _rateHz;

        /// <summary>Whether any frame has come.</summary>
        public bool HasFrames { get { lock (_lock) return _numReceived > 0; } }

        /// <summary>Frames that have come, less those that were replaced.</summary>
        public int NumReceived { get { lock (_lock) return _numReceived; } }

        /// <summary>Where playback stands, as of the last <see cref="Advance"/>.</summary>
        public PlaybackState State { get; private set; }

        /// <summary>How often playback ran dry.</summary>
        public int NumUnderruns { get; private set; }

        /// <summary>How much of the pose is the game's own idle, 0 to 1: it grows once a pose was held for
        /// <see cref="HoldS"/>, or the motion is over, and goes back when frames are there again.</summary>
        public double IdleWeight { get; private set; }

        /// <summary>What is being shown, seconds since the first frame.</summary>
        public double PlayheadS { get { lock (_lock) return _playhead / _rateHz; } }

        /// <summary>Motion in hand beyond the playhead, seconds.</summary>
        public double LeadS { get { lock (_lock) return LeadFrames / _rateHz; } }

        /// <summary>From when the clock began, with the first <see cref="Advance"/>, to now, less what was played:
        /// seconds.</summary>
        public double DelayS { get { lock (_lock) return DelayLockedS; } }

        /// <summary>How much later than the earliest most of the last chunks came, seconds.</summary>
        public double JitterS { get { lock (_lock) return _lateness.SpreadS; } }

        /// <summary>The first frame that another stream may still replace.</summary>
        public int FirstReplaceableFrame { get { lock (_lock) return FirstReplaceableLocked; } }

        int FirstReplaceableLocked => State == PlaybackState.Waiting ? 0 : (int)_playhead + FirstReplaceable;

        double LeadFrames => Math.Max(0, _numReceived - 1 - _playhead);

        double DelayLockedS => _clockS - _playhead / _rateHz;

        // What playback moves to: its lead beyond what most chunks are late.
        double TargetLockedS => Math.Max(_minDelayS, _lateness.UsualS + MinLeadFrames / _rateHz);

        /// <summary>Adds a chunk. False while it has no room: play on, then try again. Chunks come without gaps; else
        /// <see cref="WireFormatException"/>.</summary>
        public bool TryAppend(FrameChunk chunk)
        {
            int numFrames = _reader.NumFrames(chunk);
            lock (_lock)
            {
                if (_ended) throw new InvalidOperationException("frames after the end of the stream");
                if (chunk.FirstFrame != _numReceived)
                    throw new WireFormatException($"frame {chunk.FirstFrame} where {_numReceived} is next");
                if (numFrames > _capacity / RingLeads)
                    throw new WireFormatException($"a chunk of {numFrames} frames is longer than the buffer's lead");
                if (_numReceived + numFrames - (int)_playhead > _capacity) return false;

                // The first says nothing about jitter: all others are measured against it.
                if (_numChunks++ > 0) _lateness.Add(_clockS - _numReceived / _rateHz);
                for (int i = 0; i < numFrames; i++)
                {
                    int slot = (_numReceived + i) % _capacity;
                    _reader.Copy(chunk, i, out _roots[slot], Rotations(slot), out _contacts[slot]);
                }
                _numReceived += numFrames;
                return true;
            }
        }

        /// <summary>Says that no more frames come, complete or not: what is here is played to its end.</summary>
        public void End()
        {
            lock (_lock) _ended = true;
        }

        /// <summary>Forgets frames from <paramref name="frame"/> on; the next chunk starts there.</summary>
        public void ReplaceFrom(int frame)
        {
            lock (_lock)
            {
                if (frame != _numReceived && (frame < FirstReplaceableLocked || frame > _numReceived))
                    throw new ArgumentOutOfRangeException(nameof(frame),
                        $"expected {FirstReplaceableLocked} to {_numReceived}, got {frame}");
                (_numReceived, _numChunks, _ended) = (frame, 0, false);
                _lateness.Clear();
                _minDelayS = DelayLockedS;
            }
        }

        /// <summary>Moves the playhead by the time that has passed and writes the pose there, between two frames and
        /// never beyond the last. While <see cref="PlaybackState.Waiting"/> nothing is written.</summary>
        public PlaybackState Advance(double deltaS, MotionFrame into)
        {
            if (!(deltaS >= 0))
                throw new ArgumentOutOfRangeException(nameof(deltaS), $"expected 0 or more, got {deltaS}");
            lock (_lock)
            {
                // Without any frame there is no delay to speak of.
                if (_numReceived > 0) _clockS += deltaS;
                bool wasDry = State == PlaybackState.Underrun;
                State = Next(deltaS);
                Fade(deltaS, wasDry);
                if (State != PlaybackState.Waiting && _numReceived > 0) Interpolate(into);
                return State;
            }
        }

        PlaybackState Next(double deltaS)
        {
            // Jitter is known from the second chunk on.
            bool ready = _ended || (LeadFrames >= MinLeadFrames &&
                (State != PlaybackState.Waiting || _numChunks > 1));
            if (State == PlaybackState.Waiting)
            {
                if (!ready) return PlaybackState.Waiting;
                deltaS = 0;  // the first frame is shown before time runs
                _minDelayS = Math.Min(DelayLockedS, MinLeadFrames / _rateHz);
            }
            if (State == PlaybackState.Underrun && !ready) return PlaybackState.Underrun;

            double last = Math.Max(0, _numReceived - 1);
            _playhead = Math.Min(last, _playhead + deltaS * _rateHz * Speed(deltaS));
            if (_playhead < last) return PlaybackState.Playing;
            if (_ended) return PlaybackState.Finished;
            if (State != PlaybackState.Underrun) NumUnderruns++;
            return PlaybackState.Underrun;
        }

        double Speed(double deltaS)
        {
            if (_ended) return 1;
            if (LeadFrames < 1) return 1 - MaxCorrection;
            double beforeS = DelayLockedS - deltaS;  // the clock has run on, the playhead has not
            double share = (beforeS - TargetLockedS) / FullCorrectionS;
            return 1 + MaxCorrection * Math.Max(-1, Math.Min(1, share));
        }

        void Fade(double deltaS, bool wasDry)
        {
            _heldS = State == PlaybackState.Underrun && wasDry ? _heldS + deltaS : 0;
            bool away = State == PlaybackState.Finished || _heldS > HoldS;
            if (State == PlaybackState.Waiting || (State == PlaybackState.Underrun && !away)) return;
            IdleWeight = Math.Max(0, Math.Min(1, IdleWeight + (away ? deltaS : -deltaS) / FadeS));
        }

        void Interpolate(MotionFrame into)
        {
            int frame = (int)_playhead;
            float share = (float)(_playhead - frame);
            int from = frame % _capacity;
            int to = Math.Min(frame + 1, _numReceived - 1) % _capacity;
            into.RootPositionM = Vector3.Lerp(_roots[from], _roots[to], share);
            into.Contacts = _contacts[from];
            var (a, b) = (from * NumJoints, to * NumJoints);
            for (int joint = 0; joint < NumJoints; joint++)
                into.JointRotations[joint] = share == 0
                    ? _rotations[a + joint]
                    : Quaternion.Slerp(_rotations[a + joint], _rotations[b + joint], share);  // on the shorter arc
        }

        Span<Quaternion> Rotations(int slot) => _rotations.AsSpan(slot * NumJoints, NumJoints);
    }
}
