namespace MotionR1.Core
{
    /// <summary>A protobuf message that reads and writes itself.</summary>
    public interface IWireMessage
    {
        /// <summary>Reads to the end of <paramref name="reader"/>: the last value wins, repeated fields are appended
        /// to, messages merge. Malformed bytes are a <see cref="WireFormatException"/>.</summary>
        void MergeFrom(WireReader reader);

        /// <summary>Writes what differs from its default, in the order of field numbers, then unknown fields.</summary>
        void WriteTo(WireWriter writer);
    }

    /// <summary>What every message can do.</summary>
    public static class WireMessages
    {
        /// <summary>Returns the message as bytes.</summary>
        public static byte[] ToBytes(this IWireMessage message)
        {
            var writer = new WireWriter();
            message.WriteTo(writer);
            return writer.Written.ToArray();
        }
    }
}
