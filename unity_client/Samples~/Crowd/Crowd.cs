using System.Collections.Generic;
using System.Threading;
using MotionR1.Core;
using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1.Samples
{
    /// <summary>Many characters on few streams: each sentence is made once, and its motion played by all who share it, each
    /// at a time of its own, over and over. A motion is a few dozen codes; its frames are in memory once.</summary>
    public sealed class Crowd : MonoBehaviour
    {
        [SerializeField] string _address = "http://127.0.0.1:50052";
        [SerializeField] Animator[] _characters = new Animator[0];
        [SerializeField] string[] _sentences = { "a person walks forward", "a person waves", "a person looks around" };
        [SerializeField] float _pauseS = 0.5f;

        readonly List<Member> _members = new List<Member>();
        CancellationTokenSource _stop;

        void OnEnable()
        {
            _stop = new CancellationTokenSource();
            for (int i = 0; i < _sentences.Length; i++) Make(i, _stop.Token);
        }

        void OnDisable()
        {
            _stop.Cancel();
            _members.Clear();
        }

        void LateUpdate()
        {
            foreach (var member in _members) member.Update(Time.deltaTime);
        }

        async void Make(int sentence, CancellationToken stop)
        {
            var motion = new RecordedMotion();
            try
            {
                using var client = new MotionClient(Transports.Open(_address));
                var request = new StreamMotionRequest { Prompt = _sentences[sentence], Seed = (ulong)sentence };
                await foreach (var next in client.StreamMotionAsync(request, null, stop)) motion.Add(next);
            }
            catch (RpcException error)
            {
                Debug.LogError($"Motion-R1: '{_sentences[sentence]}': {error.Message}", this);
                return;
            }
            catch (System.OperationCanceledException)
            {
                return;
            }
            for (int i = sentence; i < _characters.Length; i += _sentences.Length)
                _members.Add(new Member(_characters[i], motion, i * _pauseS));
        }

        sealed class Member
        {
            readonly RecordedMotion _motion;
            readonly HumanoidRetargeter _retargeter;
            readonly MotionFrame _frame;
            readonly float _rateHz;
            float _timeS;
            int _shown = -1;

            public Member(Animator animator, RecordedMotion motion, float waitS)
            {
                var skeleton = motion.Header.Model.Skeleton;
                (_motion, _rateHz, _timeS) = (motion, motion.Header.Model.FrameRateHz, -waitS);
                _retargeter = new HumanoidRetargeter(animator, skeleton);
                _frame = new MotionFrame(skeleton.Parents.Count);
            }

            public void Update(float deltaS)
            {
                _timeS += deltaS;
                if (_timeS < 0) return;  // its turn has not come
                int frame = (int)(_timeS * _rateHz);
                if (frame >= _motion.NumFrames) (_timeS, frame) = (0, 0);
                // Again from the beginning: out of the pose it has, where it stands.
                if (frame < _shown || _shown < 0) _retargeter.BeginMotion();
                _shown = frame;
                _motion.ReadFrame(frame, _frame);
                _retargeter.Apply(_frame, deltaS);
            }
        }
    }
}
