using System;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;
using UnityEngine.Events;

namespace MotionR1
{
    public sealed partial class MotionStream
    {
        [SerializeField, Tooltip("Where the bridge answers gRPC-Web.")]
        string _address = "http://127.0.0.1:50052";

        [SerializeField, Tooltip("Bearer token, if the bridge asks for one.")]
        string _token = "";

        [SerializeField, TextArea, Tooltip("What the character does.")]
        string _prompt = "a person walks forward";

        [SerializeField, Tooltip("The same prompt and seed give the same motion.")]
        ulong _seed;

        [SerializeField, Tooltip("Plan first, or move at once.")]
        Reasoning _reasoning = Reasoning.On;

        [SerializeField, Tooltip("Whether the character walks, or stays where it is.")]
        RootMotionMode _rootMotion = RootMotionMode.Follow;

        [SerializeField, Tooltip("Say the prompt as soon as this component is enabled.")]
        bool _playOnEnable = true;

        [SerializeField, Tooltip("The model's plan, before it moves.")]
        UnityEvent<Plan> _planReceived = new UnityEvent<Plan>();

        [SerializeField, Tooltip("The last frame of a complete motion is on screen.")]
        UnityEvent<StreamSummary> _finished = new UnityEvent<StreamSummary>();

        [SerializeField, Tooltip("The call failed. What came before is still played.")]
        UnityEvent<RpcException> _failed = new UnityEvent<RpcException>();

        [SerializeField, Tooltip("Frames did not come in time; the last one is held.")]
        UnityEvent _underrun = new UnityEvent();

        /// <summary>Where the bridge answers gRPC-Web; read when the component is enabled.</summary>
        public string Address { get => _address; set => _address = value; }

        /// <summary>Bearer token; read when the component is enabled.</summary>
        public string Token { get => _token; set => _token = value; }

        /// <summary>What the character does.</summary>
        public string Prompt { get => _prompt; set => _prompt = value; }

        /// <summary>The same prompt and seed give the same motion.</summary>
        public ulong Seed { get => _seed; set => _seed = value; }

        /// <summary>Plan first, or move at once.</summary>
        public Reasoning Reasoning { get => _reasoning; set => _reasoning = value; }

        /// <summary>Whether the character walks, or stays where it is.</summary>
        public RootMotionMode RootMotion { get => _rootMotion; set => _rootMotion = value; }

        /// <summary>Say the prompt as soon as this component is enabled.</summary>
        public bool PlayOnEnable { get => _playOnEnable; set => _playOnEnable = value; }

        /// <summary>Opens another transport than gRPC-Web over HTTP/1.1; null for that one. Set it before the component
        /// is enabled.</summary>
        public Func<IByteTransport> OpenTransport { get; set; }

        /// <summary>The model's plan, before it moves.</summary>
        public UnityEvent<Plan> PlanReceived => _planReceived;

        /// <summary>The last frame of a complete motion is on screen.</summary>
        public UnityEvent<StreamSummary> Finished => _finished;

        /// <summary>The call failed. What came before is still played.</summary>
        public UnityEvent<RpcException> Failed => _failed;

        /// <summary>Frames did not come in time; the last one is held.</summary>
        public UnityEvent Underrun => _underrun;

        /// <summary>Whether a motion is on screen and not over.</summary>
        public bool IsPlaying => _shown != null && _shown.Buffer.State != PlaybackState.Finished;
    }
}
