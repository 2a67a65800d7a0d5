using System;
using NUnit.Framework;
using UnityEngine;

namespace MotionR1.Tests
{
    static class Near
    {
        const float ToleranceM = 1e-4f;
        const float ToleranceDot = 1e-6f;

        /// <summary>Expects two points within a tenth of a millimetre.</summary>
        public static void AssertEqual(Vector3 actual, Vector3 expected, string what = "")
        {
            Assert.That((actual - expected).magnitude, Is.LessThan(ToleranceM), $"{what}: {actual} is not {expected}");
        }

        /// <summary>Expects the same turn; q and -q are one.</summary>
        public static void AssertEqual(Quaternion actual, Quaternion expected, string what = "")
        {
            float dot = Quaternion.Dot(Quaternion.Normalize(actual), Quaternion.Normalize(expected));
            Assert.That(Math.Abs(dot), Is.EqualTo(1).Within(ToleranceDot),
                $"{what}: {actual} is not {expected}");
        }
    }
}
