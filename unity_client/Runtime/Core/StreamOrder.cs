using MotionR1.Core.V1;

namespace MotionR1.Core
{
    /// <summary>Holds a stream to its order: header, plan or none, chunks without gaps, summary.</summary>
    sealed class StreamOrder
    {
        FrameReader _reader;
        bool _planned;
        bool _closed;
        int _numFrames;
        int _numCodes;

        /// <summary>Checks the next event; what is out of order is an <see cref="RpcException"/>.</summary>
        public void Add(MotionEvent next)
        {
            if (_closed) throw Broken("an event after the summary");
            if ((next.Header != null) == (_reader != null))
                throw Broken(_reader == null ? "the header does not come first" : "a second header");
            if (next.Header != null) _reader = Reader(next.Header);
            else if (next.Plan != null) AddPlan();
            else if (next.Chunk != null) AddChunk(next.Chunk);
            else AddSummary(next.Summary);
        }

        /// <summary>Says that no more comes; without a summary that is an <see cref="RpcException"/>.</summary>
        public void End()
        {
            if (!_closed)
                throw new RpcException(StatusCode.Unavailable,
                    $"the stream is incomplete: it ended after {_numFrames} frames without its summary");
        }

        void AddPlan()
        {
            if (_planned) throw Broken("a second plan");
            if (_numCodes > 0) throw Broken("a plan after the first frames");
            _planned = true;
        }

        void AddChunk(FrameChunk chunk)
        {
            if (chunk.FirstFrame != _numFrames) throw Broken($"frame {chunk.FirstFrame} where {_numFrames} is next");
            try
            {
                int numFrames = _reader.NumFrames(chunk);
                if (numFrames != _reader.FramesPerCode)
                    throw Broken($"{numFrames} frames in a chunk, {_reader.FramesPerCode} are a code");
                _numFrames += numFrames;
            }
            catch (WireFormatException error)
            {
                throw new RpcException(StatusCode.Internal, error.Message, error);
            }
            _numCodes++;
        }

        void AddSummary(StreamSummary summary)
        {
            if (summary.NumFrames != _numFrames || summary.NumCodes != _numCodes)
                throw new RpcException(StatusCode.DataLoss,
                    $"the summary counts {summary.NumCodes} codes and {summary.NumFrames} frames; " +
                    $"{_numCodes} and {_numFrames} came");
            _closed = true;
        }

        static FrameReader Reader(StreamHeader header)
        {
            try
            {
                return new FrameReader(header);
            }
            catch (WireFormatException error)
            {
                throw new RpcException(StatusCode.Internal, error.Message, error);
            }
        }

        static RpcException Broken(string what) =>
            new RpcException(StatusCode.Internal, $"the stream is out of order: {what}");
    }
}
