using System;
using System.Collections.Generic;
using MotionR1.Core;
using UnityEditor;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Editor
{
    /// <summary>Where this project's bridge is. Address, TLS and roots go into ProjectSettings, and so to everybody who works
    /// on the project; the token stays on this machine, in UserSettings.</summary>
    [FilePath("ProjectSettings/MotionR1.asset", FilePathAttribute.Location.ProjectFolder)]
    public sealed class BridgeSettings : ScriptableSingleton<BridgeSettings>
    {
        const string TokenKey = "MotionR1.Token";

        [SerializeField] string _host = "127.0.0.1:50052";
        [SerializeField] bool _tls;
        [SerializeField] string _rootCertificates = "";

        /// <summary>Host and port of gRPC-Web.</summary>
        public string Host
        {
            get => _host;
            set
            {
                _host = value.Trim();
                Save(true);
            }
        }

        /// <summary>Whether the bridge is asked over TLS.</summary>
        public bool Tls
        {
            get => _tls;
            set
            {
                _tls = value;
                Save(true);
            }
        }

        /// <summary>The only roots that the bridge's certificate may come from, as PEM; empty for those that the system
        /// trusts. What is no PEM is an <see cref="ArgumentException"/>.</summary>
        public string RootCertificates
        {
            get => _rootCertificates;
            set
            {
                string pem = value.Trim();
                if (pem.Length > 0) _ = new TrustedRoots(pem);
                _rootCertificates = pem;
                Save(true);
            }
        }

        /// <summary>Bearer token.</summary>
        public string Token
        {
            get => EditorUserSettings.GetConfigValue(TokenKey) ?? "";
            set => EditorUserSettings.SetConfigValue(TokenKey, value);
        }

        /// <summary>The address as transports take it.</summary>
        public string Address => (_tls ? "https://" : "http://") + _host;

        /// <summary>Opens a client of this bridge.</summary>
        public MotionClient Open() => new MotionClient(Transports.Open(Address, RootCertificates), Token);

        [SettingsProvider]
        static SettingsProvider Provider() => new SettingsProvider("Project/Motion-R1", SettingsScope.Project)
        {
            label = "Motion-R1",
            keywords = new HashSet<string> { "motion", "bridge", "address", "token", "TLS", "certificate" },
            activateHandler = (_, root) => Show(instance, root),
        };

        static void Show(BridgeSettings settings, VisualElement root)
        {
            var host = new TextField("Bridge (gRPC-Web)") { value = settings.Host, isDelayed = true };
            host.RegisterValueChangedCallback(change => settings.Host = change.newValue);
            var tls = new Toggle("TLS") { value = settings.Tls };
            tls.RegisterValueChangedCallback(change => settings.Tls = change.newValue);
            var wrong = new Label();
            var roots = new TextField("Own roots (PEM); empty: the system's")
            {
                value = settings.RootCertificates,
                multiline = true,
                isDelayed = true,
            };
            roots.RegisterValueChangedCallback(change =>
            {
                wrong.text = "";
                try
                {
                    settings.RootCertificates = change.newValue;
                }
                catch (ArgumentException error)
                {
                    wrong.text = $"Kept as it was. {error.Message}";
                }
            });
            var token = new TextField("Token (this machine only)")
            {
                value = settings.Token,
                isDelayed = true,
                isPasswordField = true,
            };
            token.RegisterValueChangedCallback(change => settings.Token = change.newValue);
            root.Add(host);
            root.Add(tls);
            root.Add(roots);
            root.Add(wrong);
            root.Add(token);
        }
    }
}
