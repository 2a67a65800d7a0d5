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
        const double ShortestBeatS = 0.1;
        const double Rounding = 1e-4;  // 1.4 s, a float, is still 7 codes of 0.2 s

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

        /// <summary>Counts and quality; null while the motion is incomplete. Of one that broke off and was taken up, no
        /// server saw the whole: it has neither quality nor times.</summary>
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

        /// <summary>Forgets all from a code on, the summary too.</summary>
        public void RemoveFrom(int code)
        {
            if (code < 0 || code > _chunks.Count)
                throw new ArgumentOutOfRangeException(nameof(code), $"expected 0 to {_chunks.Count}, got {code}");
            _chunks.RemoveRange(code, _chunks.Count - code);
            Summary = null;
        }

        /// <summary>Forgets all from a code on, and the plan: what comes next is another turn, with a plan of its own.
        /// </summary>
        public void BeginTurn(int code)
        {
            RemoveFrom(code);
            (Plan, _firstFrame) = (null, NumFrames);
        }

        /// <summary>Takes the events of a call that goes on from here: counts frames and codes on. A plan that is what is
        /// left of ours leaves ours as it is. False for a code that is here already.</summary>
        /// <param name="next">Its next event, which is changed.</param>
        /// <param name="fromCode">Where that call began.</param>
        internal bool Continue(MotionEvent next, int fromCode)
        {
            int firstFrame = fromCode * FramesPerCode;
            if (next.Chunk != null)
            {
                next.Chunk.FirstFrame += firstFrame;
                if (next.Chunk.FirstFrame < NumFrames)
                {
                    RequireSame(next.Chunk, _chunks[next.Chunk.FirstFrame / FramesPerCode]);
                    return false;
                }
            }
            if (next.Summary != null)
            {
                next.Summary.NumCodes += fromCode;
                next.Summary.NumFrames += firstFrame;
                next.Summary.DurationS = next.Summary.NumFrames / Header.Model.FrameRateHz;
                if (firstFrame > _firstFrame)
                    (next.Summary.Quality, next.Summary.FirstFrameMs, next.Summary.TotalMs) = (null, 0, 0);
            }
            if (next.Plan == null || Plan == null) Add(next);
            return true;
        }

        static void RequireSame(FrameChunk theirs, FrameChunk ours)
        {
            if (theirs.Code != ours.Code)
                throw new RpcException(StatusCode.FailedPrecondition,
                    $"asked again, the server sends code {theirs.Code} at frame {ours.FirstFrame}, it was {ours.Code}: " +
                    "its provider differs; begin anew");
        }

        /// <summary>Closes a motion whose every frame has come, but not its summary; nobody has measured it then.</summary>
        internal MotionEvent Close()
        {
            Summary = new StreamSummary
            {
                NumCodes = _chunks.Count,
                NumFrames = NumFrames,
                DurationS = NumFrames / Header.Model.FrameRateHz,
                StopReason = Plan != null ? StopReason.PlanDuration : StopReason.MaxDuration,
                Seed = Header.Seed,
            };
            return new MotionEvent { Summary = Summary };
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

        /// <summary>Returns the request for what is left of one that broke off: of a plan its beats that are not over, and
        /// as much of its time. A motion that is chosen from takes has no rest: it is asked for again, and is the same.
        /// Null where only the summary is missing.</summary>
        /// <param name="request">What was asked for.</param>
        /// <param name="limits">Those of the server that will answer.</param>
        /// <param name="fromCode">Where the answer begins.</param>
        internal StreamMotionRequest Rest(StreamMotionRequest request, Limits limits, out int fromCode)
        {
            var rest = StreamMotionRequest.Parse(request.ToBytes());
            int numDone = NumFrames == _firstFrame ? 0 : (NumFrames - _firstFrame) / FramesPerCode;
            bool isChosen = request.BestOf > 1 || request.MinQuality > 0;
            fromCode = isChosen ? _chunks.Count - numDone : _chunks.Count;
            rest.History = HistoryAfter(request.History, fromCode, Math.Max(1, limits.MaxHistoryCodes));
            if (isChosen || (numDone == 0 && Plan == null)) return rest;
            double codeS = FramesPerCode / (double)Header.Model.FrameRateHz;
            float longestS = rest.MaxDurationS ?? limits.MaxDurationS;
            double numLeft = longestS > 0 ? Math.Floor(longestS / codeS + Rounding) - numDone : double.PositiveInfinity;
            if (Plan != null && Plan.Beats.Count > 0)
            {
                // As the server rounds it.
                double planS = 0;
                foreach (var beat in Plan.Beats) planS += Tenths(beat.DurationS);
                numLeft = Math.Min(numLeft, Math.Max(1, Math.Round(planS / codeS)) - numDone);
                rest.Beats.Clear();
                rest.Beats.AddRange(BeatsAfter(numDone * codeS));
            }
            if (numLeft <= 0) return null;
            if (!double.IsInfinity(numLeft)) rest.MaxDurationS = (float)(numLeft * codeS);
            return rest;
        }

        // A motion that went on from another one may have fewer codes of its own than a server takes.
        History HistoryAfter(History before, int numCodes, int maxCodes)
        {
            var history = HistoryUpTo(numCodes, maxCodes);
            if (before == null || history == null) return history ?? before;
            int numBefore = Math.Min(before.Codes.Count, maxCodes - history.Codes.Count);
            history.Codes.InsertRange(0, before.Codes.GetRange(before.Codes.Count - numBefore, numBefore));
            return history;
        }

        IEnumerable<Beat> BeatsAfter(double playedS)
        {
            double endS = 0;
            foreach (var beat in Plan.Beats)
            {
                endS += Tenths(beat.DurationS);
                double leftS = Tenths(Math.Min(beat.DurationS, endS - playedS));
                if (leftS < ShortestBeatS) continue;
                var left = Beat.Parse(beat.ToBytes());
                left.DurationS = (float)leftS;
                yield return left;
            }
        }

        // The wire counts beats in tenths of a second.
        static double Tenths(double seconds) => Math.Round(seconds * 10) / 10;

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
