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
        /// <summary>Share of speed that is given up, at most, to get the lead back.</summary>
        public const double MaxCorrection = 0.1;

        const int MinLeadFrames = 2;
        const double JitterFactor = 1.25;
        const double JitterDecay = 15.0 / 16.0;
        const int RingLeads = 2;
        const int FirstReplaceable = 2;

        readonly object _lock = new object();
        readonly FrameReader _reader;
        readonly double _rateHz;
        readonly double _maxTargetFrames;
        readonly int _capacity;
        readonly Vector3[] _roots;
        readonly Quaternion[] _rotations;
        readonly FootContacts[] _contacts;

        int _numReceived;
        bool _ended;
        double _playhead;  // in frames
        double _jitterS;
        double _lastArrivalS;
        double _lastLengthS;

        /// <summary>An empty buffer for the stream that <paramref name="header"/> opens.</summary>
        /// <param name="header">The stream's own.</param>
        /// <param name="maxLeadS">How far the server runs ahead of the clock, seconds. The lead that playback waits for
        /// stays one code below, or playback might never start.</param>
        public PlaybackBuffer(StreamHeader header, double maxLeadS = 1.0)
        {
            _reader = new FrameReader(header);
            _rateHz = _reader.FrameRateHz;
            int framesPerCode = _reader.FramesPerCode;
            double maxLeadFrames = maxLeadS * _rateHz;
            if (!(maxLeadFrames >= MinLeadFrames + framesPerCode))
                throw new ArgumentOutOfRangeException(nameof(maxLeadS),
                    $"expected at least {(MinLeadFrames + framesPerCode) / _rateHz} s, got {maxLeadS}");
            _maxTargetFrames = maxLeadFrames - framesPerCode;
            _capacity = RingLeads * ((int)Math.Ceiling(maxLeadFrames) + framesPerCode);
            _roots = new Vector3[_capacity];
            _rotations = new Quaternion[_capacity * _reader.NumJoints];
            _contacts = new FootContacts[_capacity];
        }

        /// <summary>Joints of each frame.</summary>
        public int NumJoints => _reader.NumJoints;

        /// <summary>Whether any frame has come.</summary>
        public bool HasFrames { get { lock (_lock) return _numReceived > 0; } }

        /// <summary>Where playback stands, as of the last <see cref="Advance"/>.</summary>
        public PlaybackState State { get; private set; }

        /// <summary>How often playback ran dry.</summary>
        public int NumUnderruns { get; private set; }

        /// <summary>What is being shown, seconds since the first frame.</summary>
        public double PlayheadS { get { lock (_lock) return _playhead / _rateHz; } }

        /// <summary>Motion in hand beyond the playhead, seconds.</summary>
        public double LeadS { get { lock (_lock) return LeadFrames / _rateHz; } }

        /// <summary>The lead to start with, and to keep: two frames and 1.25 times the jitter.</summary>
        public double TargetLeadS { get { lock (_lock) return TargetFrames / _rateHz; } }

        /// <summary>How much later than its turn a chunk came: the worst, fading by 1/16 with each chunk,
        /// seconds.</summary>
        public double JitterS { get { lock (_lock) return _jitterS; } }

        /// <summary>The first frame that another stream may still replace.</summary>
        public int FirstReplaceableFrame { get { lock (_lock) return FirstReplaceableLocked; } }

        int FirstReplaceableLocked => State == PlaybackState.Waiting ? 0 : (int)_playhead + FirstReplaceable;

        double LeadFrames => Math.Max(0, _numReceived - 1 - _playhead);

        double TargetFrames => Math.Min(MinLeadFrames + JitterFactor * _jitterS * _rateHz, _maxTargetFrames);

        /// <summary>Adds a chunk that arrived at <paramref name="nowS"/>, by any clock that runs in seconds. False
        /// while it has no room: play on, then try again. Chunks come without gaps; else
        /// <see cref="WireFormatException"/>.</summary>
        public bool TryAppend(FrameChunk chunk, double nowS)
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

                MeasureJitter(nowS, numFrames / _rateHz);
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
                if (frame < FirstReplaceableLocked || frame > _numReceived)
                    throw new ArgumentOutOfRangeException(nameof(frame),
                        $"expected {FirstReplaceableLocked} to {_numReceived}, got {frame}");
                _numReceived = frame;
                _ended = false;
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
                State = Next(deltaS * _rateHz);
                if (State != PlaybackState.Waiting && _numReceived > 0) Interpolate(into);
                return State;
            }
        }

        PlaybackState Next(double deltaFrames)
        {
            bool ready = _ended || (_numReceived > 0 && LeadFrames >= TargetFrames);
            if (State == PlaybackState.Waiting)
            {
                if (!ready) return PlaybackState.Waiting;
                deltaFrames = 0;  // the first frame is shown before time runs
            }
            if (State == PlaybackState.Underrun && !ready) return PlaybackState.Underrun;

            double last = Math.Max(0, _numReceived - 1);
            _playhead = Math.Min(last, _playhead + deltaFrames * Speed);
            if (_playhead < last) return PlaybackState.Playing;
            if (_ended) return PlaybackState.Finished;
            if (State != PlaybackState.Underrun) NumUnderruns++;
            return PlaybackState.Underrun;
        }

        // A lead that is too long costs nothing, so only one that is too short is corrected.
        double Speed => _ended ? 1 : 1 - MaxCorrection * Math.Max(0, 1 - LeadFrames / TargetFrames);

        void MeasureJitter(double nowS, double lengthS)
        {
            double lateS = _numReceived == 0 ? 0 : nowS - _lastArrivalS - _lastLengthS;
            _jitterS = Math.Max(lateS, _jitterS * JitterDecay);
            (_lastArrivalS, _lastLengthS) = (nowS, lengthS);
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
