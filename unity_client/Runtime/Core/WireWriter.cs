using System;
using System.Buffers.Binary;
using System.Text;

namespace MotionR1.Core
{
    /// <summary>Collects protobuf values in a buffer that grows.</summary>
    public sealed class WireWriter
    {
        const int FirstCapacity = 64;
        const int VarintBits = 7;
        const byte VarintMore = 1 << VarintBits;

        static readonly UTF8Encoding StrictUtf8 = new UTF8Encoding(false, throwOnInvalidBytes: true);

        byte[] _buffer = new byte[FirstCapacity];
        int _count;

        /// <summary>All that was written; good until the next write.</summary>
        public ReadOnlySpan<byte> Written => new ReadOnlySpan<byte>(_buffer, 0, _count);

        /// <summary>Writes field number and wire type as one number.</summary>
        public void WriteTag(uint tag) => WriteUInt64(tag);

        /// <summary>Writes a varint.</summary>
        public void WriteUInt64(ulong value)
        {
            for (; value >= VarintMore; value >>= VarintBits) Room(1)[0] = (byte)(value | VarintMore);
            Room(1)[0] = (byte)value;
        }

        /// <summary>Writes a varint.</summary>
        public void WriteInt64(long value) => WriteUInt64((ulong)value);

        /// <summary>Writes a varint.</summary>
        public void WriteUInt32(uint value) => WriteUInt64(value);

        /// <summary>Writes a varint; a negative number takes ten bytes.</summary>
        public void WriteInt32(int value) => WriteUInt64((ulong)value);

        /// <summary>Writes a varint, 0 or 1.</summary>
        public void WriteBool(bool value) => WriteUInt64(value ? 1UL : 0UL);

        /// <summary>Writes four bytes.</summary>
        public void WriteFloat(float value) =>
            BinaryPrimitives.WriteInt32LittleEndian(Room(sizeof(float)), BitConverter.SingleToInt32Bits(value));

        /// <summary>Writes eight bytes.</summary>
        public void WriteDouble(double value) =>
            BinaryPrimitives.WriteInt64LittleEndian(Room(sizeof(double)), BitConverter.DoubleToInt64Bits(value));

        /// <summary>Writes a length and the text as UTF-8. Half a surrogate pair is an <see cref="ArgumentException"/>.
        /// </summary>
        public void WriteString(string value) => WriteBytes(StrictUtf8.GetBytes(value));

        /// <summary>Writes a length and the bytes.</summary>
        public void WriteBytes(byte[] value)
        {
            WriteUInt64((ulong)value.Length);
            WriteRaw(value);
        }

        /// <summary>Writes a length and the message.</summary>
        public void WriteMessage(IWireMessage message)
        {
            int start = _count;
            message.WriteTo(this);
            InsertLength(start);
        }

        /// <summary>Writes the tag of a packed run, and returns what <see cref="EndRun"/> asks for.</summary>
        public int BeginRun(uint tag)
        {
            WriteTag(tag);
            return _count;
        }

        /// <summary>Puts the length before what was written since <see cref="BeginRun"/>.</summary>
        public void EndRun(int start) => InsertLength(start);

        /// <summary>Writes the bytes as they are.</summary>
        public void WriteRaw(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Room(bytes.Length));

        // A length is known only after the content, and its own size varies: write it behind, then turn both round.
        void InsertLength(int start)
        {
            int end = _count;
            WriteUInt64((ulong)(end - start));
            int numLengthBytes = _count - end;
            Span<byte> length = stackalloc byte[numLengthBytes];
            _buffer.AsSpan(end, numLengthBytes).CopyTo(length);
            Buffer.BlockCopy(_buffer, start, _buffer, start + numLengthBytes, end - start);
            length.CopyTo(_buffer.AsSpan(start));
        }

        Span<byte> Room(int count)
        {
            int needed = checked(_count + count);
            if (needed > _buffer.Length) Array.Resize(ref _buffer, Math.Max(needed, checked(2 * _buffer.Length)));
            var room = _buffer.AsSpan(_count, count);
            _count = needed;
            return room;
        }
    }
}
