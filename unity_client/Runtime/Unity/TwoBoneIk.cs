using UnityEngine;

namespace MotionR1
{
    /// <summary>Bends a limb of two bones so that its end is where it should be, its hinge turning about the axis that it
    /// has. The end keeps its own rotation. Source: the law of cosines.</summary>
    public static class TwoBoneIk
    {
        const float MaxStretch = 0.9999f;
        const float MinLength = 1e-5f;

        /// <summary>Moves the end to <paramref name="target"/>, or as near as the limb reaches.</summary>
        /// <param name="upper">Thigh or upper arm.</param>
        /// <param name="lower">Shin or forearm.</param>
        /// <param name="end">Foot or hand.</param>
        /// <param name="target">In the world.</param>
        /// <param name="hinge">Axis of the hinge while the limb is straight and shows none, in the world.</param>
        public static void Reach(Transform upper, Transform lower, Transform end, Vector3 target, Vector3 hinge)
        {
            var endRotation = end.rotation;
            var from = upper.position;
            var (bone, chord) = (lower.position - from, end.position - from);
            float first = bone.magnitude, second = (end.position - lower.position).magnitude;
            float now = chord.magnitude;
            if (first < MinLength || second < MinLength || now < MinLength) return;
            float shortest = Mathf.Abs(first - second) + MinLength, longest = (first + second) * MaxStretch;
            float reach = Mathf.Clamp((target - from).magnitude, shortest, longest);

            var axis = Vector3.Cross(chord, bone);
            if (axis.magnitude < MinLength * first * now) axis = hinge;
            float wanted = Angle(first, reach, second);
            upper.rotation = Quaternion.AngleAxis(wanted - Vector3.Angle(chord, bone), axis) * upper.rotation;
            var tip = from + chord * (reach / now);
            Aim(lower, end.position - lower.position, tip - lower.position);
            Aim(upper, end.position - from, target - from);
            end.rotation = endRotation;
        }

        // Between two sides of a triangle, opposite the third; degrees.
        static float Angle(float a, float b, float opposite) =>
            Mathf.Acos(Mathf.Clamp((a * a + b * b - opposite * opposite) / (2 * a * b), -1, 1)) * Mathf.Rad2Deg;

        static void Aim(Transform bone, Vector3 now, Vector3 wanted)
        {
            if (wanted.magnitude < MinLength) return;
            bone.rotation = Quaternion.FromToRotation(now, wanted) * bone.rotation;
        }
    }
}
