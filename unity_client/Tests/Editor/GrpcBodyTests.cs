using System;
using System.Collections.Generic;
using System.Linq;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    public class GrpcBodyTests
    {
        [Test]
        public void AMessageIsAFlagALengthAndItsBytes()
        {
            var body = GrpcBody.Frame(new Beat { Text = "wave" });
            Assert.That(CodecTests.Hex(body), Is.EqualTo("00" + "00000006" + "0a0477617665"));
        }

        [Test]
        public void ItMakesNoDifferenceWhereTheNetworkSplitsABody()
        {
            var events = Streams.Complete(2);
            var bytes = Streams.WebBody(events);
            var whole = Read(bytes, bytes.Length, 0);
            Assert.That(whole.Count, Is.EqualTo(events.Count));
            for (int split = 0; split <= bytes.Length; split++)
                Assert.That(Read(bytes, split, bytes.Length), Is.EqualTo(whole), $"split at {split}");
            Assert.That(Read(bytes, 0, 1), Is.EqualTo(whole), "byte by byte");
        }

        [Test]
        public void ManyMessagesPassThroughTheSameMemory()
        {
            var message = new FrameChunk { Contacts = new byte[3000] };
            var framed = GrpcBody.Frame(message);
            var body = new GrpcBody();
            for (int i = 0; i < 1000; i++)
            {
                body.Append(framed);
                Assert.That(body.TryRead(out var read), Is.True);
                Assert.That(read.Length, Is.EqualTo(framed.Length - GrpcBody.PrefixLength));
            }
        }

        [TestCase((byte)0x01, 0, StatusCode.Internal, TestName = "compressed")]
        [TestCase((byte)0x3c, 0, StatusCode.Internal, TestName = "HTML")]
        [TestCase((byte)0x00, int.MaxValue, StatusCode.ResourceExhausted, TestName = "2 GB")]
        public void WhatIsNotGrpcIsRefused(byte flag, int length, StatusCode expected)
        {
            var body = new GrpcBody();
            body.Append(new[] { flag, (byte)(length >> 24), (byte)(length >> 16), (byte)(length >> 8), (byte)length });
            Assert.That(() => body.TryRead(out _), Fails.With(expected));
        }

        [Test]
        public void AnEndInsideAMessageIsBroken()
        {
            var bytes = GrpcBody.Frame(new Beat { Text = "wave" });
            for (int length = 1; length < bytes.Length; length++)
            {
                var body = new GrpcBody();
                body.Append(bytes.AsSpan(0, length));
                Assert.That(body.TryRead(out _), Is.False);
                Assert.That(() => body.End(), Fails.With(StatusCode.Internal));
            }
        }

        // Appends the first part at once, the rest in steps, and returns all messages in hex.
        static List<string> Read(byte[] bytes, int split, int step)
        {
            var body = new GrpcBody();
            var messages = new List<string>();
            body.Append(bytes.AsSpan(0, split));
            for (int at = split; ; at += step)
            {
                while (body.TryRead(out var message)) messages.Add(CodecTests.Hex(message.ToArray()));
                if (at >= bytes.Length) break;
                body.Append(bytes.AsSpan(at, Math.Min(step, bytes.Length - at)));
            }
            body.End();
            Assert.That(body.Trailers["grpc-status"], Is.EqualTo("0"));
            return messages;
        }
    }
}
