// Stands in for UnityEngine.Networking: a request is played by a script of the tests. The handlers that speak HTTP/2 are
// there to compile; their requests need Unity.
using System;
using System.Collections.Generic;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using UnityEngine;

namespace UnityEngine
{
    public class AsyncOperation
    {
        public bool isDone => throw new NotSupportedException("the stub has no network");
    }
}

namespace UnityEngine.Networking
{
    public class UnityWebRequestAsyncOperation : AsyncOperation
    {
    }

    public class UploadHandler : IDisposable
    {
        public void Dispose()
        {
        }
    }

    public sealed class UploadHandlerRaw : UploadHandler
    {
        public UploadHandlerRaw(byte[] data) => Data = data;

        internal byte[] Data { get; }
    }

    public class DownloadHandler : IDisposable
    {
        public void Dispose()
        {
        }
    }

    public class DownloadHandlerScript : DownloadHandler
    {
        protected virtual bool ReceiveData(byte[] data, int dataLength) => true;

        internal void Receive(byte[] data, int length) => ReceiveData(data, length);
    }

    /// <summary>Played by a script of the tests: not Unity's.</summary>
    public sealed class ScriptedWeb
    {
        public static ScriptedWeb Current { get; set; }

        public long Status { get; set; } = 200;

        /// <summary>False while no response has begun.</summary>
        public bool Answers { get; set; } = true;

        public Dictionary<string, string> Headers { get; } =
            new Dictionary<string, string> { ["content-type"] = "application/grpc-web+proto" };

        public string Error { get; set; }

        public bool Done { get; set; }

        public bool Aborted { get; internal set; }

        public UnityWebRequest Request { get; internal set; }

        public byte[] Sent { get; internal set; }

        public Dictionary<string, string> SentHeaders { get; } = new Dictionary<string, string>();

        public void Receive(byte[] data) => ((DownloadHandlerScript)Request.downloadHandler).Receive(data, data.Length);
    }

    public class UnityWebRequest : IDisposable
    {
        public const string kHttpVerbPOST = "POST";

        readonly ScriptedWeb _web = ScriptedWeb.Current;
        bool _sent;

        public UnityWebRequest(Uri uri, string method) => (this.uri, this.method) = (uri, method);

        public enum Result
        {
            InProgress,
            Success,
            ConnectionError,
            ProtocolError,
            DataProcessingError,
        }

        public Uri uri { get; set; }

        public string method { get; set; }

        public UploadHandler uploadHandler { get; set; }

        public DownloadHandler downloadHandler { get; set; }

        public long responseCode => _sent && _web.Answers ? _web.Status : 0;

        public bool isDone => _sent && (_web.Done || _web.Error != null);

        public string error => _web.Error;

        public Result result =>
            _web.Error != null ? Result.ConnectionError : _web.Done ? Result.Success : Result.InProgress;

        public void SetRequestHeader(string name, string value) => _web.SentHeaders[name] = value;

        public string GetResponseHeader(string name) => _web.Headers.TryGetValue(name, out string value) ? value : null;

        public UnityWebRequestAsyncOperation SendWebRequest()
        {
            _sent = true;
            (_web.Request, _web.Sent) = (this, ((UploadHandlerRaw)uploadHandler).Data);
            return new UnityWebRequestAsyncOperation();
        }

        public void Abort() => _web.Aborted = true;

        public void Dispose()
        {
            if (!_web.Aborted) throw new InvalidOperationException("a request that runs is aborted first");
        }
    }

    public enum HttpForcedVersion
    {
        NotForced = 0,
        HTTP1_0,
        HTTP1_1,
        HTTP2,
    }

    public class UnityHttpMessageHandler : HttpMessageHandler
    {
        public HttpForcedVersion HttpForcedVersion { get; set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request,
            CancellationToken cancellation) => throw new NotSupportedException("the stub has no network");
    }
}

namespace Cysharp.Net.Http
{
    public class YetAnotherHttpHandler : HttpMessageHandler
    {
        public bool? Http2Only { get; set; }

        public string RootCertificates { get; set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request,
            CancellationToken cancellation) => throw new NotSupportedException("the stub has no network");
    }
}
