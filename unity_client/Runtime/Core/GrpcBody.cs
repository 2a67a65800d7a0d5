using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Text;

namespace MotionR1.Core
{
    /// <summary>Cuts the body of a response into messages and, for gRPC-Web, trailers. The network may split it
    /// anywhere. Both protocols put five bytes before each message: a flag and the length, big-endian.</summary>
    public sealed class GrpcBody
    {
        /// <summary>Bytes before a message.</summary>
        public const int PrefixLength = 1 + sizeof(uint);

        /// <summary>Longest message that is accepted: gRPC's own default.</summary>
        public const int MaxMessageBytes = 4 << 20;

        const byte MessageFlag = 0x00;
        const byte CompressedFlag = 0x01;
        const byte TrailersFlag = 0x80;

        byte[] _buffer = new byte[4096];
        int _start;
        int _end;

        /// <summary>What followed the last message, names in lower case; null before it came, and always for native
        /// gRPC. </summary>
        public IReadOnlyDictionary<string, string> Trailers { get; private set; }

        /// <summary>Puts the prefix before a message.</summary>
        public static byte[] Frame(IWireMessage message)
        {
            var bytes = message.ToBytes();
            var body = new byte[PrefixLength + bytes.Length];
            BinaryPrimitives.WriteUInt32BigEndian(body.AsSpan(1), (uint)bytes.Length);
            bytes.CopyTo(body, PrefixLength);
            return body;
        }

        /// <summary>Adds what the network brought.</summary>
        public void Append(ReadOnlySpan<byte> bytes)
        {
            if (_end + bytes.Length > _buffer.Length)
            {
                int left = _end - _start;
                int needed = left + bytes.Length;
                var target = needed > _buffer.Length ? new byte[Math.Max(needed, 2 * _buffer.Length)] : _buffer;
                Buffer.BlockCopy(_buffer, _start, target, 0, left);
                (_buffer, _start, _end) = (target, 0, left);
            }
            bytes.CopyTo(_buffer.AsSpan(_end));
            _end += bytes.Length;
        }

        /// <summary>Takes the next message if all of it is here; it is good until the next <see cref="Append"/>.
        /// Throws <see cref="RpcException"/> where the body breaks the protocol.</summary>
        public bool TryRead(out ReadOnlyMemory<byte> message)
        {
            message = default;
            if (Trailers != null || _end - _start < PrefixLength) return false;
            byte flag = _buffer[_start];
            if (flag == CompressedFlag)
                throw new RpcException(StatusCode.Internal, "the server compresses; this client never asks for that");
            if (flag != MessageFlag && flag != TrailersFlag)
                throw new RpcException(StatusCode.Internal, $"flag 0x{flag:x2} before a message: this is not gRPC");
            uint length = BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(_start + 1));
            if (length > MaxMessageBytes)
                throw new RpcException(StatusCode.ResourceExhausted,
                    $"a message of {length} bytes; at most {MaxMessageBytes} are accepted");
            if (_end - _start - PrefixLength < length) return false;

            var content = new ReadOnlyMemory<byte>(_buffer, _start + PrefixLength, (int)length);
            _start += PrefixLength + (int)length;
            if (flag == TrailersFlag)
            {
                Trailers = ParseTrailers(Encoding.UTF8.GetString(content.Span));
                return false;
            }
            message = content;
            return true;
        }

        /// <summary>Says that the body has ended; throws <see cref="RpcException"/> if that is inside a
        /// message.</summary>
        public void End()
        {
            if (Trailers == null && _end != _start)
                throw new RpcException(StatusCode.Internal, "the response ended inside a message");
        }

        static Dictionary<string, string> ParseTrailers(string text)
        {
            var trailers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            foreach (string line in text.Split('\n'))
            {
                int colon = line.IndexOf(':');
                if (colon > 0) trailers[line.Substring(0, colon).Trim()] = line.Substring(colon + 1).Trim();
            }
            return trailers;
        }
    }
}
