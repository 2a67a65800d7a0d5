using System;
using System.IO;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;
using UnityEngine.Events;

namespace MotionR1
{
    /// <summary>What follows the last frame.</summary>
    public enum EndOfMotion
    {
        /// <summary>The Animator's own pose.</summary>
        Idle,
        /// <summary>The last frame stays.</summary>
        Hold,
    }

    /// <summary>Where the motion on screen comes from.</summary>
    public enum MotionOrigin
    {
        /// <summary>There is none: the Animator has the rig.</summary>
        Idle,
        /// <summary>The bridge.</summary>
        Stream,
        /// <summary>The bridge failed: the motion that the same request gave before.</summary>
        Cache,
    }

    public sealed partial class MotionStream
    {
        [SerializeField, Tooltip("Where the bridge answers: http or https for gRPC-Web, grpc or grpcs for native gRPC.")]
        string _address = "http://127.0.0.1:50052";

        [SerializeField, Tooltip("Bearer token, if the bridge asks for one.")]
        string _token = "";

        [SerializeField, Tooltip("The only roots that the bridge's certificate may come from, as PEM in a text file. " +
            "Empty: those that the system trusts.")]
        TextAsset _rootCertificates;

        [SerializeField, TextArea, Tooltip("What the character does.")]
        string _prompt = "a person walks forward";

        [SerializeField, Tooltip("The same prompt and seed give the same motion.")]
        ulong _seed;

        [SerializeField, Tooltip("Plan first, or move at once.")]
        Reasoning _reasoning = Reasoning.On;

        [SerializeField, Tooltip("Who moves the character over the floor.")]
        RootMotionMode _rootMotion = RootMotionMode.Follow;

        [SerializeField, Tooltip("Keep feet where they stand, whatever the proportions of the legs.")]
        bool _lockFeet = true;

        [SerializeField, Tooltip("What follows the last frame.")]
        EndOfMotion _atEnd = EndOfMotion.Idle;

        [SerializeField, Tooltip("Keep complete motions on disk, to play them where the bridge cannot be reached.")]
        bool _keepMotions = true;

        [SerializeField, Tooltip("Say the prompt as soon as this component is enabled.")]
        bool _playOnEnable = true;

        [SerializeField, Tooltip("The model's plan, before it moves.")]
        UnityEvent<Plan> _planReceived = new UnityEvent<Plan>();

        [SerializeField, Tooltip("The first frame is on screen.")]
        UnityEvent _firstFrame = new UnityEvent();

        [SerializeField, Tooltip("A beat of the plan begins.")]
        UnityEvent<Beat> _beatStarted = new UnityEvent<Beat>();

        [SerializeField, Tooltip("The last frame of a complete motion is on screen.")]
        UnityEvent<StreamSummary> _finished = new UnityEvent<StreamSummary>();

        [SerializeField, Tooltip("The call failed. What came before is still played.")]
        UnityEvent<RpcException> _failed = new UnityEvent<RpcException>();

        [SerializeField, Tooltip("Frames did not come in time; the last one is held.")]
        UnityEvent _underrun = new UnityEvent();

        /// <summary>Where the bridge answers, as <see cref="Transports.Open"/> takes it; read when the component is enabled.
        /// </summary>
        public string Address { get => _address; set => _address = value; }

        /// <summary>Bearer token; read when the component is enabled.</summary>
        public string Token { get => _token; set => _token = value; }

        /// <summary>The only roots that the bridge's certificate may come from, as <see cref="Transports.Open"/> takes them;
        /// null for the system's. Read when the component is enabled.</summary>
        public TextAsset RootCertificates { get => _rootCertificates; set => _rootCertificates = value; }

        /// <summary>What the character does.</summary>
        public string Prompt { get => _prompt; set => _prompt = value; }

        /// <summary>The same prompt and seed give the same motion.</summary>
        public ulong Seed { get => _seed; set => _seed = value; }

        /// <summary>Plan first, or move at once.</summary>
        public Reasoning Reasoning { get => _reasoning; set => _reasoning = value; }

        /// <summary>Who moves the character over the floor.</summary>
        public RootMotionMode RootMotion { get => _rootMotion; set => _rootMotion = value; }

        /// <summary>Goes each step, metres in the world, and turn of <see cref="RootMotionMode.Callback"/>; for example
        /// <c>(step, turn) => { agent.Move(step); transform.rotation *= turn; }</c>.</summary>
        public Action<Vector3, Quaternion> MoveRoot { get; set; }

        /// <summary>Keep feet where they stand.</summary>
        public bool LockFeet { get => _lockFeet; set => _lockFeet = value; }

        /// <summary>What follows the last frame.</summary>
        public EndOfMotion AtEnd { get => _atEnd; set => _atEnd = value; }

        /// <summary>Keep complete motions, to play them where the bridge cannot be reached.</summary>
        public bool KeepMotions { get => _keepMotions; set => _keepMotions = value; }

        /// <summary>Where they are kept: by default in a folder of the game's persistent data. Characters may share
        /// one.</summary>
        public MotionCache Cache
        {
            get => _cache ??= new MotionCache(folder: Path.Combine(Application.persistentDataPath, "MotionR1"));
            set => _cache = value;
        }

        /// <summary>Say the prompt as soon as this component is enabled.</summary>
        public bool PlayOnEnable { get => _playOnEnable; set => _playOnEnable = value; }

        /// <summary>Opens another transport than <see cref="Transports.Open"/> does; null for that one. Set it before the
        /// component is enabled.</summary>
        public Func<IByteTransport> OpenTransport { get; set; }

        /// <summary>The model's plan, before it moves.</summary>
        public UnityEvent<Plan> PlanReceived => _planReceived;

        /// <summary>The first frame is on screen.</summary>
        public UnityEvent FirstFrame => _firstFrame;

        /// <summary>A beat of the plan begins.</summary>
        public UnityEvent<Beat> BeatStarted => _beatStarted;

        /// <summary>The last frame of a complete motion is on screen.</summary>
        public UnityEvent<StreamSummary> Finished => _finished;

        /// <summary>The call failed. What came before is still played.</summary>
        public UnityEvent<RpcException> Failed => _failed;

        /// <summary>Frames did not come in time; the last one is held.</summary>
        public UnityEvent Underrun => _underrun;

        /// <summary>Whether a motion is on screen and not over.</summary>
        public bool IsPlaying => _shown != null && !_shown.IsFinished;

        /// <summary>Where the motion on screen comes from.</summary>
        public MotionOrigin Origin => _shown?.Origin ?? MotionOrigin.Idle;

        /// <summary>What came of the motion on screen, with plan and codes; null without one.</summary>
        public RecordedMotion Recording => _shown?.Recording;
    }
}
