using System;
using System.Collections.Generic;
using System.Net.Http;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MotionR1.Core
{
    /// <summary>The only roots that a bridge's certificate may come from, instead of those that the system trusts: for
    /// bridges whose certificates somebody signed by himself.</summary>
    public sealed class TrustedRoots
    {
        const string Begin = "-----BEGIN CERTIFICATE-----", End = "-----END CERTIFICATE-----";
        const string ServerAuthentication = "1.3.6.1.5.5.7.3.1";

        readonly List<X509Certificate2> _roots = new List<X509Certificate2>();

        /// <summary>Reads certificates, one or more, as PEM. What is none is an <see cref="ArgumentException"/>.</summary>
        public TrustedRoots(string pem)
        {
            for (int at = 0; (at = pem.IndexOf(Begin, at, StringComparison.Ordinal)) >= 0;)
            {
                int from = at + Begin.Length;
                at = pem.IndexOf(End, from, StringComparison.Ordinal);
                if (at < 0) throw new ArgumentException($"root {_roots.Count + 1}: '{End}' is missing");
                try
                {
                    _roots.Add(new X509Certificate2(Convert.FromBase64String(pem.Substring(from, at - from))));
                }
                catch (Exception error) when (error is FormatException || error is CryptographicException)
                {
                    throw new ArgumentException($"root {_roots.Count + 1} is no certificate: {error.Message}", error);
                }
            }
            if (_roots.Count == 0) throw new ArgumentException($"expected PEM with '{Begin}', got none");
        }

        /// <summary>Opens a handler that trusts these alone.</summary>
        public HttpClientHandler Handler() => new HttpClientHandler
        {
            ServerCertificateCustomValidationCallback = (_, certificate, sent, errors) =>
                Trusts(certificate, sent, errors),
        };

        /// <summary>Whether a server is who it says: the name is in its certificate, which is in force and leads to one of
        /// the roots. Revocation is not asked for: who signs by himself publishes no lists.</summary>
        /// <param name="certificate">The server's own.</param>
        /// <param name="sent">The chain as the system sees it, with what the server sent beside its certificate.</param>
        /// <param name="errors">What the system does not like; that it does not know the root is expected.</param>
        public bool Trusts(X509Certificate2 certificate, X509Chain sent, SslPolicyErrors errors)
        {
            if (certificate == null || (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != 0) return false;
            using var chain = new X509Chain();
            var policy = chain.ChainPolicy;
            policy.RevocationMode = X509RevocationMode.NoCheck;
            policy.ApplicationPolicy.Add(new Oid(ServerAuthentication));
            // The system's roots may not know ours; which root it is, is compared below.
            policy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            foreach (var root in _roots) policy.ExtraStore.Add(root);
            if (sent != null)
            {
                policy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
                foreach (var element in sent.ChainElements) policy.ExtraStore.Add(element.Certificate);
            }
            if (!chain.Build(certificate)) return false;
            var last = chain.ChainElements[chain.ChainElements.Count - 1].Certificate;
            return _roots.Exists(root => root.RawData.AsSpan().SequenceEqual(last.RawData));
        }
    }
}
