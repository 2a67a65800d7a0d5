using System;

namespace MotionR1.Core
{
    /// <summary>gRPC's canonical status codes.</summary>
    public enum StatusCode
    {
        /// <summary>Success.</summary>
        Ok = 0,
        /// <summary>Somebody cancelled the call.</summary>
        Cancelled = 1,
        /// <summary>What happened has no code of its own.</summary>
        Unknown = 2,
        /// <summary>The request is wrong.</summary>
        InvalidArgument = 3,
        /// <summary>Time was up.</summary>
        DeadlineExceeded = 4,
        /// <summary>No such thing.</summary>
        NotFound = 5,
        /// <summary>It is there already.</summary>
        AlreadyExists = 6,
        /// <summary>The caller may not do this.</summary>
        PermissionDenied = 7,
        /// <summary>The server has too much to do, or the message is too long.</summary>
        ResourceExhausted = 8,
        /// <summary>Not possible as things are.</summary>
        FailedPrecondition = 9,
        /// <summary>Stopped halfway.</summary>
        Aborted = 10,
        /// <summary>Beyond the valid range.</summary>
        OutOfRange = 11,
        /// <summary>The server has no such method.</summary>
        Unimplemented = 12,
        /// <summary>One side breaks the protocol.</summary>
        Internal = 13,
        /// <summary>The server cannot be reached, or the stream is incomplete. Trying again may help.</summary>
        Unavailable = 14,
        /// <summary>Data is gone.</summary>
        DataLoss = 15,
        /// <summary>The token is missing or wrong.</summary>
        Unauthenticated = 16,
    }

    /// <summary>A call that failed.</summary>
    public sealed class RpcException : Exception
    {
        /// <summary>Says why.</summary>
        public RpcException(StatusCode code, string detail, Exception cause = null, RpcDetails details = null)
            : base($"{code}: {detail}", cause)
        {
            Code = code;
            Detail = detail;
            Details = details ?? RpcDetails.None;
        }

        /// <summary>What kind of failure.</summary>
        public StatusCode Code { get; }

        /// <summary>What the server, or the client itself, says about it.</summary>
        public string Detail { get; }

        /// <summary>The same for programs: fields that are wrong, when to try again, the reason.</summary>
        public RpcDetails Details { get; }
    }
}
