using System;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MotionR1.Core;
using MotionR1.Editor;
using NUnit.Framework;

namespace MotionR1.Tests
{
    /// <summary>Whose certificates are believed; over the network see WireErrorsTests. Certificates are made here, which
    /// Unity's own .NET may not do.</summary>
    public class TrustedRootsTests
    {
        const string ServerUse = "1.3.6.1.5.5.7.3.1", ClientUse = "1.3.6.1.5.5.7.3.2";
        const SslPolicyErrors Unknown = SslPolicyErrors.RemoteCertificateChainErrors;

        static readonly DateTimeOffset Now = DateTimeOffset.UtcNow;

        readonly X509Certificate2 _root = Root("root"), _other = Root("other");

        [Test]
        public void ACertificateOfTheRootIsTrustedAndOneOfAnotherRootIsNot()
        {
            using var server = Issue(_root, ServerUse, 1);
            Assert.That(new TrustedRoots(Pem(_root)).Trusts(server, null, Unknown), Is.True);
            Assert.That(new TrustedRoots(Pem(_other)).Trusts(server, null, Unknown), Is.False);
            Assert.That(new TrustedRoots(Pem(_other) + Pem(_root)).Trusts(server, null, Unknown), Is.True);
            Assert.That(new TrustedRoots(Pem(_other)).Trusts(server, null, SslPolicyErrors.None), Is.False,
                "only these roots count, whatever the system says");
        }

        [Test]
        public void ACertificateThatWasPinnedItselfIsTrusted()
        {
            Assert.That(new TrustedRoots(Pem(_root)).Trusts(_root, null, Unknown), Is.True);
        }

        [TestCase(SslPolicyErrors.RemoteCertificateNameMismatch)]
        [TestCase(Unknown | SslPolicyErrors.RemoteCertificateNameMismatch)]
        [TestCase(SslPolicyErrors.RemoteCertificateNotAvailable)]
        public void AnotherNameIsNeverTrusted(SslPolicyErrors errors)
        {
            using var server = Issue(_root, ServerUse, 1);
            Assert.That(new TrustedRoots(Pem(_root)).Trusts(server, null, errors), Is.False);
        }

        [TestCase(ServerUse, -1, TestName = "over since yesterday")]
        [TestCase(ClientUse, 1, TestName = "not for servers")]
        public void ACertificateThatIsNotInForceIsNotTrusted(string use, int days)
        {
            using var server = Issue(_root, use, days);
            Assert.That(new TrustedRoots(Pem(_root)).Trusts(server, null, Unknown), Is.False);
        }

        [TestCase("", "got none")]
        [TestCase("MIIB", "got none")]
        [TestCase("-----BEGIN CERTIFICATE-----\nMIIB\n", "is missing")]
        [TestCase("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "root 1 is no certificate")]
        [TestCase("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "root 1 is no certificate")]
        public void WhatIsNoPemIsExplained(string pem, string words)
        {
            Assert.That(() => new TrustedRoots(pem), Throws.ArgumentException.With.Message.Contains(words));
        }

        [Test]
        public void TheProjectSettingsTakeCertificatesAndNothingElse()
        {
            var settings = BridgeSettings.instance;
            settings.RootCertificates = Pem(_root);
            Assert.That(() => settings.RootCertificates = "no certificate", Throws.ArgumentException);
            Assert.That(settings.RootCertificates, Is.EqualTo(Pem(_root).Trim()));
            settings.RootCertificates = "  ";
            Assert.That(settings.RootCertificates, Is.Empty, "the system's again");
        }

        static X509Certificate2 Root(string name)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest("CN=" + name, key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            return request.CreateSelfSigned(Now.AddDays(-9), Now.AddDays(9));
        }

        static X509Certificate2 Issue(X509Certificate2 by, string use, int days)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest("CN=bridge.example", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(
                new X509EnhancedKeyUsageExtension(new OidCollection { new Oid(use) }, false));
            return request.Create(by, Now.AddDays(-8), Now.AddDays(days), new byte[] { 1, 2, 3 });
        }

        static string Pem(X509Certificate2 certificate) => "-----BEGIN CERTIFICATE-----\n" +
            Convert.ToBase64String(certificate.RawData, Base64FormattingOptions.InsertLineBreaks) +
            "\n-----END CERTIFICATE-----\n";
    }
}
