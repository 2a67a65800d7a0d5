// Stands in for UnityEngine where there is no Unity: written from its public documentation, only what the client uses.
using System;

namespace UnityEngine
{
    public static class Mathf
    {
        public const float Rad2Deg = 180f / (float)Math.PI;
        public const float Deg2Rad = (float)Math.PI / 180f;

        public static float Atan2(float y, float x) => (float)Math.Atan2(y, x);

        public static float Sin(float angle) => (float)Math.Sin(angle);

        public static float Cos(float angle) => (float)Math.Cos(angle);

        public static float Sqrt(float value) => (float)Math.Sqrt(value);

        public static float Acos(float value) => (float)Math.Acos(value);

        public static float Abs(float value) => Math.Abs(value);

        public static float Max(float a, float b) => Math.Max(a, b);

        public static float Min(float a, float b) => Math.Min(a, b);

        public static float Clamp(float value, float min, float max) => Math.Max(min, Math.Min(max, value));

        public static float Clamp01(float value) => Clamp(value, 0, 1);

        public static int RoundToInt(float value) => (int)Math.Round(value);
    }

    public struct Vector3
    {
        public float x, y, z;

        public Vector3(float x, float y, float z) => (this.x, this.y, this.z) = (x, y, z);

        public static Vector3 zero => new Vector3(0, 0, 0);
        public static Vector3 one => new Vector3(1, 1, 1);
        public static Vector3 up => new Vector3(0, 1, 0);
        public static Vector3 forward => new Vector3(0, 0, 1);
        public static Vector3 right => new Vector3(1, 0, 0);
        public static Vector3 left => new Vector3(-1, 0, 0);

        public float sqrMagnitude => Dot(this, this);

        public float magnitude => Mathf.Sqrt(sqrMagnitude);

        public Vector3 normalized => magnitude > 1e-5f ? this * (1 / magnitude) : zero;

        public static Vector3 Lerp(Vector3 a, Vector3 b, float t) => a + (b - a) * Mathf.Clamp01(t);

        // Unity's own loses small angles to the arccosine; this one does not.
        public static float Angle(Vector3 from, Vector3 to) =>
            Mathf.Atan2(Cross(from, to).magnitude, Dot(from, to)) * Mathf.Rad2Deg;

        public static float Dot(Vector3 a, Vector3 b) => a.x * b.x + a.y * b.y + a.z * b.z;

        public static Vector3 Cross(Vector3 a, Vector3 b) =>
            new Vector3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);

        public static Vector3 Scale(Vector3 a, Vector3 b) => new Vector3(a.x * b.x, a.y * b.y, a.z * b.z);

        public static Vector3 operator +(Vector3 a, Vector3 b) => new Vector3(a.x + b.x, a.y + b.y, a.z + b.z);

        public static Vector3 operator -(Vector3 a, Vector3 b) => new Vector3(a.x - b.x, a.y - b.y, a.z - b.z);

        public static Vector3 operator -(Vector3 a) => new Vector3(-a.x, -a.y, -a.z);

        public static Vector3 operator *(Vector3 a, float b) => new Vector3(a.x * b, a.y * b, a.z * b);

        public override string ToString() => $"({x}, {y}, {z})";
    }

    public struct Quaternion
    {
        public float x, y, z, w;

        public Quaternion(float x, float y, float z, float w) => (this.x, this.y, this.z, this.w) = (x, y, z, w);

        public static Quaternion identity => new Quaternion(0, 0, 0, 1);

        public static Quaternion AngleAxis(float degrees, Vector3 axis)
        {
            float half = degrees * Mathf.Deg2Rad / 2;
            var v = axis * (Mathf.Sin(half) / axis.magnitude);
            return new Quaternion(v.x, v.y, v.z, Mathf.Cos(half));
        }

        public static Quaternion Inverse(Quaternion q) => new Quaternion(-q.x, -q.y, -q.z, q.w);

        public static Quaternion Normalize(Quaternion q)
        {
            float length = Mathf.Sqrt(Dot(q, q));
            return new Quaternion(q.x / length, q.y / length, q.z / length, q.w / length);
        }

        public static Quaternion Slerp(Quaternion a, Quaternion b, float t)
        {
            t = Mathf.Clamp01(t);
            float dot = Dot(a, b), sign = dot < 0 ? -1 : 1;
            double angle = Math.Acos(Math.Min(1, Math.Abs((double)dot)));
            double sin = Math.Sin(angle);
            double from = sin < 1e-6 ? 1 - t : Math.Sin((1 - t) * angle) / sin;
            double to = sign * (sin < 1e-6 ? t : Math.Sin(t * angle) / sin);
            return Normalize(new Quaternion((float)(from * a.x + to * b.x), (float)(from * a.y + to * b.y),
                (float)(from * a.z + to * b.z), (float)(from * a.w + to * b.w)));
        }

        public static Quaternion FromToRotation(Vector3 from, Vector3 to)
        {
            var (a, b) = (from.normalized, to.normalized);
            float dot = Vector3.Dot(a, b);
            if (dot < -0.999999f)
            {
                var side = Vector3.Cross(a, Mathf.Abs(a.x) < 0.9f ? Vector3.right : Vector3.up);
                return AngleAxis(180, side);
            }
            var axis = Vector3.Cross(a, b);
            return Normalize(new Quaternion(axis.x, axis.y, axis.z, 1 + dot));
        }

        public static float Angle(Quaternion a, Quaternion b)
        {
            var d = Inverse(a) * b;
            return 2 * Mathf.Rad2Deg * Mathf.Atan2(new Vector3(d.x, d.y, d.z).magnitude, Mathf.Abs(d.w));
        }

        public static float Dot(Quaternion a, Quaternion b) => a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;

        public static Quaternion operator *(Quaternion a, Quaternion b) => new Quaternion(
            a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
            a.w * b.y + a.y * b.w + a.z * b.x - a.x * b.z,
            a.w * b.z + a.z * b.w + a.x * b.y - a.y * b.x,
            a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z);

        public static Vector3 operator *(Quaternion q, Vector3 v)
        {
            var axis = new Vector3(q.x, q.y, q.z);
            var turned = Vector3.Cross(axis, v) * 2;
            return v + turned * q.w + Vector3.Cross(axis, turned);
        }

        public override string ToString() => $"({x}, {y}, {z}, {w})";
    }
}
