using MotionR1.Core.V1;
using UnityEngine;

namespace MotionR1.Samples
{
    /// <summary>A character that acts out what is typed. Put it beside a MotionStream; a line of text and two buttons
    /// appear in the game. While it moves, Steer changes its mind without a seam.</summary>
    [RequireComponent(typeof(MotionStream))]
    public sealed class TalkingNpc : MonoBehaviour
    {
        const float Width = 420, Line = 28;

        MotionStream _stream;
        string _typed = "a person waves with the right hand";
        string _doing = "";
        string _problem = "";

        void OnEnable()
        {
            _stream = GetComponent<MotionStream>();
            _stream.PlanReceived.AddListener(OnPlan);
            _stream.BeatStarted.AddListener(OnBeat);
            _stream.Failed.AddListener(OnFailed);
        }

        void OnDisable()
        {
            _stream.PlanReceived.RemoveListener(OnPlan);
            _stream.BeatStarted.RemoveListener(OnBeat);
            _stream.Failed.RemoveListener(OnFailed);
        }

        void OnGUI()
        {
            GUILayout.BeginArea(new Rect(10, 10, Width, 6 * Line));
            _typed = GUILayout.TextField(_typed);
            GUILayout.BeginHorizontal();
            if (GUILayout.Button("Say")) _stream.Say(_typed);
            if (GUILayout.Button("Steer")) _stream.Steer(_typed);
            if (GUILayout.Button("Stop")) _stream.Stop();
            GUILayout.EndHorizontal();
            GUILayout.Label(_doing);
            GUILayout.Label(_problem);
            GUILayout.EndArea();
        }

        void OnPlan(Plan plan) => (_doing, _problem) = (plan.Text, "");

        void OnBeat(Beat beat) => _doing = beat.Text;

        void OnFailed(Core.RpcException error) => _problem = error.Detail;
    }
}
