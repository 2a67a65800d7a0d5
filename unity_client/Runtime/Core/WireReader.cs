using System;
using System.Buffers.Binary;
using System.Text;

namespace MotionR1.Core
{
    /// <summary>Reads protobuf values from the front of a span. Every length is checked against what is left before
    /// anything is allocated; what does not fit is a <see cref="WireFormatException"/>.</summary>
    public ref struct WireReader
    {
        const int MaxVarintBytes = 10;
        const int VarintBits = 7;
        const byte VarintMore = 1 << VarintBits;

        static readonly UTF8Encoding StrictUtf8 = new UTF8Encoding(false, throwOnInvalidBytes: true);

        readonly ReadOnlySpan<byte> _bytes;
        int _at;
        int _tagStart;

        /// <summary>Starts at the first of <paramref name="bytes"/>.</summary>
        public WireReader(ReadOnlySpan<byte> bytes)
        {
            _bytes = bytes;
            _at = 0;
            _tagStart = 0;
        }

        /// <summary>Whether everything was read.</summary>
        public bool AtEnd => _at == _bytes.Length;

        /// <summary>Reads field number and wire type as one number.</summary>
        public uint ReadTag()
        {
            _tagStart = _at;
            ulong tag = ReadUInt64();
            if (tag > uint.MaxValue || tag >> WireType.NumBits == 0)
                throw new WireFormatException($"byte {_tagStart}: {tag} is no tag of a field");
            return (uint)tag;
        }

        /// <summary>Skips the value of a field that nobody knows, and returns it with its tag as it came.</summary>
        public ReadOnlySpan<byte> ReadUnknown(uint tag)
        {
            int start = _tagStart;
            int type = (int)(tag & WireType.Mask);
            switch (type)
            {
                case WireType.Varint: ReadUInt64(); break;
                case WireType.Fixed64: Take(sizeof(ulong)); break;
                case WireType.Length: TakeRun(); break;
                case WireType.Fixed32: Take(sizeof(uint)); break;
                default: throw new WireFormatException($"byte {start}: wire type {type} is not in use");
            }
            return _bytes.Slice(start, _at - start);
        }

        /// <summary>Reads a varint.</summary>
        public ulong ReadUInt64()
        {
            ulong value = 0;
            for (int i = 0; i < MaxVarintBytes; i++)
            {
                if (AtEnd) throw new WireFormatException($"byte {_at}: ends inside a number");
                byte next = _bytes[_at++];
                value |= (ulong)(next & (VarintMore - 1)) << (VarintBits * i);
                if (next < VarintMore) return value;
            }
            throw new WireFormatException($"byte {_at}: a number of more than {MaxVarintBytes} bytes");
        }

        /// <summary>Reads a varint.</summary>
        public long ReadInt64() => (long)ReadUInt64();

        /// <summary>Reads the low half of a varint.</summary>
        public uint ReadUInt32() => (uint)ReadUInt64();

        /// <summary>Reads the low half of a varint; a negative number has all ten bytes.</summary>
        public int ReadInt32() => (int)ReadUInt64();

        /// <summary>Reads a varint: anything but 0 is true.</summary>
        public bool ReadBool() => ReadUInt64() != 0;

        /// <summary>Reads four bytes.</summary>
        public float ReadFloat() =>
            BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadInt32LittleEndian(Take(sizeof(float))));

        /// <summary>Reads eight bytes.</summary>
        public double ReadDouble() =>
            BitConverter.Int64BitsToDouble(BinaryPrimitives.ReadInt64LittleEndian(Take(sizeof(double))));

        /// <summary>Reads a length and that many bytes of UTF-8.</summary>
        public string ReadString()
        {
            int start = _at;
            var run = TakeRun();
            try
            {
                return StrictUtf8.GetString(run);
            }
            catch (DecoderFallbackException error)
            {
                throw new WireFormatException($"byte {start}: text is not UTF-8", error);
            }
        }

        /// <summary>Reads a length and a copy of that many bytes.</summary>
        public byte[] ReadBytes() => TakeRun().ToArray();

        /// <summary>Reads a length and returns a reader of just that many bytes: a message, or a packed run.</summary>
        public WireReader ReadMessage() => new WireReader(TakeRun());

        ReadOnlySpan<byte> TakeRun()
        {
            ulong length = ReadUInt64();
            if (length > (ulong)(_bytes.Length - _at))
                throw new WireFormatException($"byte {_at}: {length} bytes announced, {_bytes.Length - _at} are left");
            return Take((int)length);
        }

        ReadOnlySpan<byte> Take(int count)
        {
            if (count > _bytes.Length - _at)
                throw new WireFormatException($"byte {_at}: {count} bytes expected, {_bytes.Length - _at} are left");
            var taken = _bytes.Slice(_at, count);
            _at += count;
            return taken;
        }
    }
}
