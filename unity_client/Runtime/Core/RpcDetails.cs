using System;
using System.Collections.Generic;

namespace MotionR1.Core
{
    /// <summary>What is wrong with one field of a request.</summary>
    public readonly struct FieldViolation
    {
        /// <summary>Says what is wrong where.</summary>
        public FieldViolation(string field, string description) => (Field, Description) = (field, description);

        /// <summary>Path of the field, for example <c>beats[1].duration_s</c>.</summary>
        public string Field { get; }

        /// <summary>What came and what was expected.</summary>
        public string Description { get; }
    }

    /// <summary>The details of a failure as programs read them: of <c>google.rpc</c>, BadRequest, RetryInfo and
    /// ErrorInfo.</summary>
    public sealed class RpcDetails
    {
        const uint StatusDetails = 26, AnyType = 10, AnyValue = 18;
        const uint BadRequestViolations = 10, ViolationField = 10, ViolationDescription = 18;
        const uint RetryDelay = 10, DurationSeconds = 8, DurationNanos = 16;
        const uint ErrorReason = 10;
        const string TypePrefix = "type.googleapis.com/google.rpc.";

        /// <summary>A failure without details.</summary>
        public static readonly RpcDetails None = new RpcDetails();

        readonly List<FieldViolation> _violations = new List<FieldViolation>();

        RpcDetails()
        {
        }

        /// <summary>Every field that is wrong; empty unless the request is.</summary>
        public IReadOnlyList<FieldViolation> FieldViolations => _violations;

        /// <summary>When asking again may help; null where that is not said.</summary>
        public TimeSpan? RetryAfter { get; private set; }

        /// <summary>The reason as one word, for example <c>BELOW_MIN_QUALITY</c>; null where none is given.</summary>
        public string Reason { get; private set; }

        /// <summary>Reads the header <c>grpc-status-details-bin</c>. What does not parse, from a proxy for example, is
        /// <see cref="None"/>: the status counts without its details. Those of other types are passed over.</summary>
        internal static RpcDetails Parse(string header)
        {
            if (string.IsNullOrEmpty(header)) return None;
            try
            {
                var details = new RpcDetails();
                string padded = header.PadRight((header.Length + 3) / 4 * 4, '=');
                details.ReadStatus(new WireReader(Convert.FromBase64String(padded)));
                return details;
            }
            catch (Exception error) when (error is FormatException || error is WireFormatException)
            {
                return None;
            }
        }

        void ReadStatus(WireReader status)
        {
            while (!status.AtEnd)
            {
                uint tag = status.ReadTag();
                if (tag == StatusDetails) ReadDetail(status.ReadMessage());
                else status.ReadUnknown(tag);
            }
        }

        void ReadDetail(WireReader any)
        {
            string type = "";
            var value = new WireReader(ReadOnlySpan<byte>.Empty);
            while (!any.AtEnd)
            {
                uint tag = any.ReadTag();
                if (tag == AnyType) type = any.ReadString();
                else if (tag == AnyValue) value = any.ReadMessage();
                else any.ReadUnknown(tag);
            }
            while (!value.AtEnd)
            {
                uint tag = value.ReadTag();
                if (type == TypePrefix + "BadRequest" && tag == BadRequestViolations)
                    _violations.Add(ReadViolation(value.ReadMessage()));
                else if (type == TypePrefix + "RetryInfo" && tag == RetryDelay)
                    RetryAfter = ReadDuration(value.ReadMessage());
                else if (type == TypePrefix + "ErrorInfo" && tag == ErrorReason)
                    Reason = value.ReadString();
                else
                    value.ReadUnknown(tag);
            }
        }

        static FieldViolation ReadViolation(WireReader violation)
        {
            string field = "", description = "";
            while (!violation.AtEnd)
            {
                uint tag = violation.ReadTag();
                if (tag == ViolationField) field = violation.ReadString();
                else if (tag == ViolationDescription) description = violation.ReadString();
                else violation.ReadUnknown(tag);
            }
            return new FieldViolation(field, description);
        }

        static TimeSpan ReadDuration(WireReader duration)
        {
            double seconds = 0;
            while (!duration.AtEnd)
            {
                uint tag = duration.ReadTag();
                if (tag == DurationSeconds) seconds += Math.Min(int.MaxValue, duration.ReadInt64());
                else if (tag == DurationNanos) seconds += duration.ReadInt32() * 1e-9;
                else duration.ReadUnknown(tag);
            }
            return TimeSpan.FromSeconds(Math.Max(0, seconds));
        }
    }
}
