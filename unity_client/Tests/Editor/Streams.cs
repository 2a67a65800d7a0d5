using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using MotionR1.Core;
using MotionR1.Core.V1;

namespace MotionR1.Tests
{
    /// <summary>Streams made by hand.</summary>
    static class Streams
    {
        public const float RateHz = 20;
        public const int FramesPerCode = 4;
        public const long FirstCode = 100;

        /// <summary>A header of <paramref name="numJoints"/> joints in one chain.</summary>
        public static StreamHeader Header(int numJoints = 1, string wireVersion = MotionClient.WireVersion)
        {
            var skeleton = new Skeleton
            {
                Name = "chain",
                RestRootHeightM = 1,
                RestOffsetsM = new byte[12 * numJoints],
            };
            for (int joint = 0; joint < numJoints; joint++)
            {
                skeleton.JointNames.Add($"joint{joint}");
                skeleton.Parents.Add(joint - 1);
            }
            return new StreamHeader
            {
                Model = new Model
                {
                    WireVersion = wireVersion,
                    Skeleton = skeleton,
                    FrameRateHz = RateHz,
                    FramesPerCode = FramesPerCode,
                },
            };
        }

        /// <summary>A chunk in which frame f has its root at x = f and all joints at rest.</summary>
        public static FrameChunk Chunk(int firstFrame, int numFrames = FramesPerCode, int numJoints = 1)
        {
            var roots = new float[3 * numFrames];
            var rotations = new float[4 * numFrames * numJoints];
            for (int frame = 0; frame < numFrames; frame++) roots[3 * frame] = firstFrame + frame;
            for (int i = 3; i < rotations.Length; i += 4) rotations[i] = 1;
            return new FrameChunk
            {
                FirstFrame = firstFrame,
                Code = FirstCode + firstFrame / FramesPerCode,
                NextRoot = new RootPlace { ZM = firstFrame + numFrames },
                RootPositionsM = Bytes(roots),
                JointRotations = Bytes(rotations),
                Contacts = Enumerable.Range(firstFrame, numFrames).Select(frame => (byte)(frame % 16)).ToArray(),
            };
        }

        public static byte[] Bytes(float[] numbers) => MemoryMarshal.AsBytes<float>(numbers).ToArray();

        /// <summary>A complete stream of <paramref name="numCodes"/> codes.</summary>
        public static List<MotionEvent> Complete(int numCodes)
        {
            var events = new List<MotionEvent>
            {
                new MotionEvent { Header = Header() },
                new MotionEvent { Plan = new Plan { Text = "1. walk, 0.4 s" } },
            };
            for (int code = 0; code < numCodes; code++)
                events.Add(new MotionEvent { Chunk = Chunk(code * FramesPerCode) });
            var summary = new StreamSummary { NumCodes = numCodes, NumFrames = numCodes * FramesPerCode };
            events.Add(new MotionEvent { Summary = summary });
            return events;
        }

        /// <summary>The body that carries the events, with a status of its own unless that is null.</summary>
        public static byte[] WebBody(IEnumerable<MotionEvent> events, string trailers = "grpc-status: 0\r\n")
        {
            var body = new List<byte>();
            foreach (var motionEvent in events)
                body.AddRange(GrpcBody.Frame(new StreamMotionResponse { Event = motionEvent }));
            if (trailers != null) body.AddRange(Framed(0x80, Encoding.UTF8.GetBytes(trailers)));
            return body.ToArray();
        }

        /// <summary>Flag, length, content.</summary>
        public static byte[] Framed(byte flag, byte[] content)
        {
            int n = content.Length;
            var prefix = new[] { flag, (byte)(n >> 24), (byte)(n >> 16), (byte)(n >> 8), (byte)n };
            return prefix.Concat(content).ToArray();
        }
    }

    /// <summary>A network that answers with what it was given, so many bytes at a time; then it ends, or waits for
    /// ever. </summary>
    sealed class ScriptedTransport : IByteTransport, IByteResponse
    {
        readonly byte[] _body;
        readonly int _step;
        readonly TaskCompletionSource<bool> _goOn = new TaskCompletionSource<bool>();
        int _at;

        public ScriptedTransport(byte[] body, int step = int.MaxValue) => (_body, _step) = (body, step);

        public Dictionary<string, string> Headers { get; } =
            new Dictionary<string, string> { ["content-type"] = "application/grpc-web+proto" };

        public Dictionary<string, string> Trailers { get; } = new Dictionary<string, string>();

        public bool HangsAtEnd { get; set; }

        /// <summary>Waits there until <see cref="GoOn"/>.</summary>
        public int WaitsAt { get; set; } = int.MaxValue;

        public void GoOn()
        {
            WaitsAt = int.MaxValue;
            _goOn.SetResult(true);
        }

        public ByteRequest Request { get; private set; }

        public bool ResponseDisposed { get; private set; }

        public GrpcProtocol Protocol { get; set; } = GrpcProtocol.Web;

        public int HttpStatus { get; set; } = 200;

        public Task<IByteResponse> SendAsync(ByteRequest request, CancellationToken cancellation)
        {
            Request = request;
            return Task.FromResult<IByteResponse>(this);
        }

        public string Header(string name) => Headers.TryGetValue(name, out string value) ? value : null;

        public string Trailer(string name) => Trailers.TryGetValue(name, out string value) ? value : null;

        public async Task<int> ReadAsync(byte[] buffer, CancellationToken cancellation)
        {
            if (_at >= WaitsAt) await _goOn.Task;
            int count = Math.Min(Math.Min(_step, buffer.Length), Math.Min(WaitsAt, _body.Length) - _at);
            if (count == 0 && HangsAtEnd) await Task.Delay(Timeout.Infinite, cancellation);
            Array.Copy(_body, _at, buffer, 0, count);
            _at += count;
            return count;
        }

        public void Dispose() => ResponseDisposed = true;
    }

    /// <summary>A real server that answers one POST with the beginning of a stream and then keeps silent until it is
    /// disposed.</summary>
    sealed class SilentServer : IDisposable
    {
        readonly TcpListener _listener = new TcpListener(IPAddress.Loopback, 0);
        readonly ManualResetEventSlim _enough = new ManualResetEventSlim();

        public SilentServer(byte[] body)
        {
            _listener.Start();
            Address = new Uri($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");
            new Thread(() => Answer(body)) { IsBackground = true }.Start();
        }

        public Uri Address { get; }

        public void Dispose()
        {
            _enough.Set();
            _listener.Stop();
        }

        void Answer(byte[] body)
        {
            using var connection = _listener.AcceptTcpClient();
            var stream = connection.GetStream();
            string head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\n" +
                "transfer-encoding: chunked\r\n\r\n";
            stream.Write(Encoding.ASCII.GetBytes(head + $"{body.Length:x}\r\n"));
            stream.Write(body);
            stream.Write(Encoding.ASCII.GetBytes("\r\n"));
            _enough.Wait();
        }
    }
}
