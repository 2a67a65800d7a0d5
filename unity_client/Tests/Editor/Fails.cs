using MotionR1.Core;
using NUnit.Framework;
using NUnit.Framework.Constraints;

namespace MotionR1.Tests
{
    static class Fails
    {
        /// <summary>Expects an <see cref="RpcException"/> with this code, and with these words in it.</summary>
        public static IResolveConstraint With(StatusCode code, string words = "")
        {
            return Throws.TypeOf<RpcException>().With.Property(nameof(RpcException.Code)).EqualTo(code)
                .And.Message.Contains(words);
        }
    }
}
