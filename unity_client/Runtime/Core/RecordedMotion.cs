using System;
using System.Collections.Generic;
using System.IO;
using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>The events of one motion, kept: to play again without a server, to bake, to go on from. What was recorded
    /// explains itself, since its header holds skeleton and frame rate.</summary>
    public sealed class RecordedMotion
    {
        const float ShortestBeatS = 0.1f;

        readonly List<FrameChunk> _chunks = new List<FrameChunk>();
        FrameReader _reader;
        int _firstFrame;

        /// <summary>Skeleton, model, frame rate; null before it came.</summary>
        public StreamHeader Header { get; private set; }

        /// <summary>The plan; null if there is none.</summary>
        public Plan Plan { get; private set; }

        /// <summary>Where the plan begins: after a turn that is not at the first frame.</summary>
        public int PlanFirstFrame => _firstFrame;

        /// <summary>Frames in order, one chunk a code.</summary>
        public IReadOnlyList<FrameChunk> Chunks => _chunks;

        /// <summary>Counts and quality; null while the motion is incomplete.</summary>
        public StreamSummary Summary { get; private set; }

        /// <summary>Frames that are here.</summary>
        public int NumFrames => _chunks.Count == 0 ? 0 : _chunks[_chunks.Count - 1].FirstFrame + FramesPerCode;

        int FramesPerCode => Header?.Model?.FramesPerCode ?? 0;

        /// <summary>The whole motion as numbers: a server decodes them to the same frames.</summary>
        public long[] Codes()
        {
            var codes = new long[_chunks.Count];
            for (int i = 0; i < codes.Length; i++) codes[i] = _chunks[i].Code;
            return codes;
        }

        /// <summary>Keeps the next event. Of header, plan and summary the last one counts.</summary>
        public void Add(MotionEvent next)
        {
            if (next.Header != null) Header = next.Header;
            if (next.Plan != null) Plan = next.Plan;
            if (next.Summary != null) Summary = next.Summary;
            if (next.Chunk == null) return;
            if (next.Chunk.FirstFrame != NumFrames)
                throw new WireFormatException($"frame {next.Chunk.FirstFrame} where {NumFrames} is next");
            _chunks.Add(next.Chunk);
        }

        /// <summary>Forgets all from a code on, the summary too: what comes next is another turn.</summary>
        public void RemoveFrom(int code)
        {
            _chunks.RemoveRange(code, _chunks.Count - code);
            Summary = null;
        }

        /// <summary>Takes the events of a call that goes on from here: counts frames and codes on.</summary>
        /// <param name="next">Its next event, which is changed.</param>
        /// <param name="fromCode">Where that call began.</param>
        /// <param name="anew">Whether its plan is another one, and not what is left of ours.</param>
        internal void Continue(MotionEvent next, int fromCode, bool anew)
        {
            int firstFrame = fromCode * FramesPerCode;
            if (next.Chunk != null) next.Chunk.FirstFrame += firstFrame;
            if (next.Summary != null)
            {
                next.Summary.NumCodes += fromCode;
                next.Summary.NumFrames += firstFrame;
                next.Summary.DurationS = next.Summary.NumFrames / Header.Model.FrameRateHz;
            }
            if (next.Header != null && anew) (Plan, _firstFrame) = (null, firstFrame);
            if (next.Plan == null || anew) Add(next);
        }

        /// <summary>Returns what a server needs to go on after <paramref name="numCodes"/> codes; null after none, where
        /// a motion begins.</summary>
        public History HistoryUpTo(int numCodes, int maxCodes)
        {
            if (numCodes < 0 || numCodes > _chunks.Count)
                throw new ArgumentOutOfRangeException(nameof(numCodes),
                    $"expected 0 to {_chunks.Count}, got {numCodes}");
            if (maxCodes < 1)
                throw new ArgumentOutOfRangeException(nameof(maxCodes), $"expected 1 or more, got {maxCodes}");
            if (numCodes == 0) return null;
            var history = new History { Root = _chunks[numCodes - 1].NextRoot };
            for (int code = Math.Max(0, numCodes - maxCodes); code < numCodes; code++)
                history.Codes.Add(_chunks[code].Code);
            return history;
        }

        /// <summary>Returns the request for what is left of one that broke off: with a plan its beats that are not over,
        /// else as much of its time.</summary>
        internal StreamMotionRequest Rest(StreamMotionRequest request)
        {
            var rest = StreamMotionRequest.Parse(request.ToBytes());
            float playedS = NumFrames == 0 ? 0 : (NumFrames - _firstFrame) / Header.Model.FrameRateHz;
            if (rest.MaxDurationS.HasValue)
                rest.MaxDurationS = Math.Max(ShortestBeatS, rest.MaxDurationS.Value - playedS);
            if (Plan == null) return rest;
            rest.Beats.Clear();
            float endS = 0;
            for (int i = 0; i < Plan.Beats.Count; i++)
            {
                endS += Plan.Beats[i].DurationS;
                // The wire counts beats in tenths of a second. Of the last one the last tenth is always left: without any
                // beat the server would plan anew.
                float leftS = (float)Math.Round(Math.Min(Plan.Beats[i].DurationS, endS - playedS) * 10) / 10;
                bool last = i == Plan.Beats.Count - 1 && rest.Beats.Count == 0;
                if (leftS < ShortestBeatS && !last) continue;
                var left = Beat.Parse(Plan.Beats[i].ToBytes());
                left.DurationS = Math.Max(ShortestBeatS, leftS);
                rest.Beats.Add(left);
            }
            return rest;
        }

        /// <summary>Returns the events in the order of a stream.</summary>
        public IEnumerable<MotionEvent> Events()
        {
            if (Header != null) yield return new MotionEvent { Header = Header };
            if (Plan != null) yield return new MotionEvent { Plan = Plan };
            foreach (var chunk in _chunks) yield return new MotionEvent { Chunk = chunk };
            if (Summary != null) yield return new MotionEvent { Summary = Summary };
        }

        /// <summary>The frame that is nearest to a time, seconds since the first one; the last where the motion is over.
        /// </summary>
        public int FrameAt(double seconds) =>
            Math.Max(0, (int)Math.Min(NumFrames - 1, Math.Round(seconds * Header.Model.FrameRateHz)));

        /// <summary>Copies one frame.</summary>
        public void ReadFrame(int frame, MotionFrame into)
        {
            if (frame < 0 || frame >= NumFrames)
                throw new ArgumentOutOfRangeException(nameof(frame), $"expected 0 to {NumFrames - 1}, got {frame}");
            _reader ??= new FrameReader(Header);
            var chunk = _chunks[frame / FramesPerCode];
            _reader.Copy(chunk, frame - chunk.FirstFrame, out var rootPositionM, into.JointRotations, out var contacts);
            (into.RootPositionM, into.Contacts) = (rootPositionM, contacts);
        }

        /// <summary>Returns the motion as bytes: messages of a stream, each with gRPC's prefix.</summary>
        public byte[] ToBytes()
        {
            using var bytes = new MemoryStream();
            foreach (var motionEvent in Events())
            {
                var framed = GrpcBody.Frame(motionEvent);
                bytes.Write(framed, 0, framed.Length);
            }
            return bytes.ToArray();
        }

        /// <summary>Reads a complete motion. What is damaged or cut off is a <see cref="WireFormatException"/>.</summary>
        public static RecordedMotion Parse(ReadOnlySpan<byte> bytes)
        {
            var body = new GrpcBody();
            var order = new StreamOrder();
            var motion = new RecordedMotion();
            body.Append(bytes);
            try
            {
                while (body.TryRead(out var message))
                {
                    var next = MotionEvent.Parse(message.Span);
                    order.Add(next);
                    motion.Add(next);
                }
                body.End();
                order.End();
            }
            catch (RpcException error)
            {
                throw new WireFormatException($"no complete motion: {error.Detail}", error);
            }
            return motion;
        }
    }
}
