namespace MotionR1.Core
{
    /// <summary>How the value behind a tag is laid out: the tag's lowest three bits.</summary>
    static class WireType
    {
        public const int Varint = 0;
        public const int Fixed64 = 1;
        public const int Length = 2;
        public const int Fixed32 = 5;

        public const int NumBits = 3;
        public const int Mask = (1 << NumBits) - 1;
    }
}
