using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using MotionR1.Core;
using MotionR1.Core.V1;
using NUnit.Framework;

namespace MotionR1.Tests
{
    public class CodecTests
    {
        const string ExchangeFolder = "MOTION_R1_CODEC_FOLDER";

        delegate IWireMessage Parse(byte[] bytes);

        static readonly Dictionary<string, Parse> Parsers = new Dictionary<string, Parse>
        {
            ["GetModelRequest"] = bytes => GetModelRequest.Parse(bytes),
            ["GetModelResponse"] = bytes => GetModelResponse.Parse(bytes),
            ["Model"] = bytes => Model.Parse(bytes),
            ["Limits"] = bytes => Limits.Parse(bytes),
            ["Skeleton"] = bytes => Skeleton.Parse(bytes),
            ["StreamMotionRequest"] = bytes => StreamMotionRequest.Parse(bytes),
            ["Sampling"] = bytes => Sampling.Parse(bytes),
            ["PlanMotionRequest"] = bytes => PlanMotionRequest.Parse(bytes),
            ["PlanMotionResponse"] = bytes => PlanMotionResponse.Parse(bytes),
            ["DecodeMotionRequest"] = bytes => DecodeMotionRequest.Parse(bytes),
            ["DecodeMotionResponse"] = bytes => DecodeMotionResponse.Parse(bytes),
            ["History"] = bytes => History.Parse(bytes),
            ["RootPlace"] = bytes => RootPlace.Parse(bytes),
            ["Pacing"] = bytes => Pacing.Parse(bytes),
            ["StreamMotionResponse"] = bytes => StreamMotionResponse.Parse(bytes),
            ["MotionEvent"] = bytes => MotionEvent.Parse(bytes),
            ["StreamHeader"] = bytes => StreamHeader.Parse(bytes),
            ["Plan"] = bytes => Plan.Parse(bytes),
            ["Beat"] = bytes => Beat.Parse(bytes),
            ["FrameChunk"] = bytes => FrameChunk.Parse(bytes),
            ["StreamSummary"] = bytes => StreamSummary.Parse(bytes),
            ["QualityReport"] = bytes => QualityReport.Parse(bytes),
        };

        [Test]
        public void AMessageIsTheBytesThatTheProtobufGuidePrescribes()
        {
            var beat = new Beat { Text = "wave", DurationS = 1.5f, BodyParts = { "left arm" } };
            Assert.That(Hex(beat.ToBytes()), Is.EqualTo("0a0477617665" + "150000c03f" + "1a086c6566742061726d"));
        }

        [Test]
        public void ANegativeNumberTakesTenBytes()
        {
            var chunk = new FrameChunk { Code = -1 };
            Assert.That(Hex(chunk.ToBytes()), Is.EqualTo("10ffffffffffffffffff01"));
            Assert.That(FrameChunk.Parse(chunk.ToBytes()).Code, Is.EqualTo(-1));
        }

        [Test]
        public void ACodeOfManyLevelsIsSentWhole()
        {
            var chunk = new FrameChunk { Code = (1L << 54) - 1 };
            Assert.That(Hex(chunk.ToBytes()), Is.EqualTo("10ffffffffffffff1f"));
            Assert.That(FrameChunk.Parse(chunk.ToBytes()).Code, Is.EqualTo((1L << 54) - 1));
        }

        [Test]
        public void AnOptionalZeroIsSentAndAPlainOneIsNot()
        {
            Assert.That(Hex(new StreamMotionRequest { MaxDurationS = 0 }.ToBytes()), Is.EqualTo("2500000000"));
            Assert.That(Hex(new StreamMotionRequest { Seed = 0 }.ToBytes()), Is.Empty);
            Assert.That(StreamMotionRequest.Parse(FromHex("2500000000")).MaxDurationS, Is.EqualTo(0f));
            Assert.That(StreamMotionRequest.Parse(Array.Empty<byte>()).MaxDurationS, Is.Null);
        }

        [Test]
        public void NegativeZeroSurvives()
        {
            var bytes = new Beat { DurationS = -0f }.ToBytes();
            Assert.That(Hex(bytes), Is.EqualTo("1500000080"));
            Assert.That(1 / Beat.Parse(bytes).DurationS, Is.EqualTo(float.NegativeInfinity));
        }

        [TestCase("1803" + "1804", TestName = "unpacked")]
        [TestCase("1a020304", TestName = "packed")]
        [TestCase("1a0103" + "1804", TestName = "both")]
        [TestCase("1a00" + "1a0103" + "1a0104", TestName = "in runs")]
        public void RepeatedNumbersAreRead(string hex)
        {
            Assert.That(Skeleton.Parse(FromHex(hex)).Parents, Is.EqualTo(new[] { 3, 4 }));
        }

        [Test]
        public void TheLastValueWinsAndMessagesMerge()
        {
            Assert.That(Beat.Parse(FromHex("0a0161" + "0a0162")).Text, Is.EqualTo("b"));
            var both = new GetModelResponse { Limits = new Limits { MaxDurationS = 2 } }.ToBytes()
                .Concat(new GetModelResponse { Limits = new Limits { MaxPromptCodePoints = 7 } }.ToBytes()).ToArray();
            var limits = GetModelResponse.Parse(both).Limits;
            Assert.That((limits.MaxDurationS, limits.MaxPromptCodePoints), Is.EqualTo((2f, 7)));
        }

        [Test]
        public void InAOneofTheLastMemberWinsAndTheSameMemberMerges()
        {
            var header = new MotionEvent { Header = new StreamHeader { Seed = 1 } }.ToBytes();
            var seed = new MotionEvent { Header = new StreamHeader { RequestId = "a" } }.ToBytes();
            var chunk = new MotionEvent { Chunk = new FrameChunk { Code = 5 } }.ToBytes();
            var merged = MotionEvent.Parse(chunk.Concat(header).Concat(seed).ToArray());
            Assert.That(merged.EventCase, Is.EqualTo(MotionEvent.EventOneofCase.Header));
            Assert.That((merged.Header.Seed, merged.Header.RequestId), Is.EqualTo((1UL, "a")));
            Assert.That(merged.Chunk, Is.Null);
        }

        [Test]
        public void UnknownFieldsSurviveInPlaceAndWithAnyWireType()
        {
            // Field 100 as varint, eight bytes, length, four bytes; and field 1, a string, as varint.
            string unknown = "a00605" + "a1060102030405060708" + "a2060161" + "a50601020304" + "0807";
            Assert.That(Hex(Beat.Parse(FromHex(unknown + "0a0161")).ToBytes()), Is.EqualTo("0a0161" + unknown));
            var nested = "0a" + (unknown.Length / 2).ToString("x2") + unknown;
            Assert.That(Hex(StreamMotionResponse.Parse(FromHex(nested)).ToBytes()), Is.EqualTo(nested));
        }

        [TestCase("0a", TestName = "no length")]
        [TestCase("0a05" + "61", TestName = "text too short")]
        [TestCase("0affffffff0f" + "61", TestName = "a length of 4 GB")]
        [TestCase("0affffffffffffffffff01", TestName = "a length of 2^64")]
        [TestCase("0a01ff", TestName = "not UTF-8")]
        [TestCase("15000000", TestName = "three bytes of a float")]
        [TestCase("00", TestName = "field 0")]
        [TestCase("0b", TestName = "a group begins")]
        [TestCase("0c", TestName = "a group ends")]
        [TestCase("0e", TestName = "wire type 6")]
        [TestCase("0f", TestName = "wire type 7")]
        [TestCase("ffffffffffffffffffff01", TestName = "eleven bytes of a number")]
        [TestCase("808080808001", TestName = "a tag beyond 32 bits")]
        [TestCase("80", TestName = "half a number")]
        public void MalformedBytesAreATypedError(string hex)
        {
            Assert.That(() => Beat.Parse(FromHex(hex)), Throws.TypeOf<WireFormatException>());
        }

        [Test]
        public void HalfASurrogatePairIsRefusedWhenWritten()
        {
            Assert.That(() => new Beat { Text = "\ud83d" }.ToBytes(), Throws.InstanceOf<ArgumentException>());
        }

        [Test]
        public void AVerdictArrivesWithItsScoreAndReason()
        {
            // Fields 11, 12 and 13: 0.5 as four bytes, 2 as a varint, nine letters.
            string hex = "5d0000003f" + "6002" + "6a096a65726b5f6d5f7333";
            var report = QualityReport.Parse(FromHex(hex));
            Assert.That((report.Score, report.Verdict), Is.EqualTo((0.5f, Verdict.Fair)));
            Assert.That(report.WeakestMeasure, Is.EqualTo("jerk_m_s3"));
            Assert.That(Hex(report.ToBytes()), Is.EqualTo(hex));
        }

        [Test]
        public void AReportOfAnOlderServerHasNoVerdict()
        {
            // Fields 1 to 5, which is all that wire version 1.0 has.
            string hex = "0d0000003f" + "150000003f" + "1d0000003f" + "250000003f" + "2d0000003f";
            var report = QualityReport.Parse(FromHex(hex));
            Assert.That((report.FootSkateMS, report.LoopGapM), Is.EqualTo((0.5f, 0.5f)));
            Assert.That((report.Verdict, report.WeakestMeasure), Is.EqualTo((Verdict.Unspecified, "")));
        }

        [Test]
        public void WhatAnotherImplementationWritesComesBackByteForByte()
        {
            string folder = Environment.GetEnvironmentVariable(ExchangeFolder);
            if (string.IsNullOrEmpty(folder)) Assert.Ignore($"{ExchangeFolder} is not set: pytest sets it");
            using var output = new StreamWriter(Path.Combine(folder, "read.txt"));
            foreach (string line in File.ReadLines(Path.Combine(folder, "written.txt")))
            {
                var parts = line.Split(' ');
                try
                {
                    output.Write(Hex(Parsers[parts[0]](FromHex(parts[1])).ToBytes()));
                }
                catch (WireFormatException)
                {
                    output.Write("malformed");
                }
                output.Write('\n');
            }
        }

        internal static string Hex(byte[] bytes) => BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant();

        internal static byte[] FromHex(string hex)
        {
            var bytes = new byte[hex.Length / 2];
            for (int i = 0; i < bytes.Length; i++) bytes[i] = Convert.ToByte(hex.Substring(2 * i, 2), 16);
            return bytes;
        }
    }
}
