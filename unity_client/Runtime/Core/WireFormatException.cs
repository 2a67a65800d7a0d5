using System;

namespace MotionR1.Core
{
    /// <summary>Bytes that are not what they should be: a message that does not parse, or frames that do not
    /// fit.</summary>
    public sealed class WireFormatException : Exception
    {
        /// <summary>Says what is wrong.</summary>
        public WireFormatException(string message, Exception cause = null) : base(message, cause)
        {
        }
    }
}
