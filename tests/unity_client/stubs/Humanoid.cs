// Stands in for UnityEngine: a humanoid rig is a map from bones to transforms and a table of the T-pose.
using System.Collections.Generic;

namespace UnityEngine
{
    public enum HumanBodyBones
    {
        Hips = 0,
        LeftUpperLeg = 1,
        RightUpperLeg = 2,
        LeftLowerLeg = 3,
        RightLowerLeg = 4,
        LeftFoot = 5,
        RightFoot = 6,
        Spine = 7,
        Chest = 8,
        Neck = 9,
        Head = 10,
        LeftShoulder = 11,
        RightShoulder = 12,
        LeftUpperArm = 13,
        RightUpperArm = 14,
        LeftLowerArm = 15,
        RightLowerArm = 16,
        LeftHand = 17,
        RightHand = 18,
        LeftToes = 19,
        RightToes = 20,
        LeftEye = 21,
        RightEye = 22,
        Jaw = 23,
        LeftThumbProximal = 24,
        UpperChest = 54,
    }

    public struct SkeletonBone
    {
        public string name;
        public Vector3 position;
        public Quaternion rotation;
        public Vector3 scale;
    }

    public struct HumanLimit
    {
        public bool useDefaultValues { get; set; }
    }

    public struct HumanBone
    {
        public string boneName { get; set; }

        public string humanName { get; set; }

        public HumanLimit limit;
    }

    public struct HumanDescription
    {
        public HumanBone[] human;
        public SkeletonBone[] skeleton;

        public float upperArmTwist { get; set; }

        public float lowerArmTwist { get; set; }

        public float upperLegTwist { get; set; }

        public float lowerLegTwist { get; set; }

        public float armStretch { get; set; }

        public float legStretch { get; set; }
    }

    public class Avatar : Object
    {
        internal Avatar()
        {
        }

        public bool isValid { get; internal set; }

        public bool isHuman { get; internal set; }

        public HumanDescription humanDescription { get; internal set; }
    }

    public class Animator : Behaviour
    {
        public Avatar avatar { get; set; }

        public Transform GetBoneTransform(HumanBodyBones bone)
        {
            if (avatar == null) return null;
            foreach (var entry in avatar.humanDescription.human)
                if (entry.humanName == bone.ToString()) return Find(transform, entry.boneName);
            return null;
        }

        static Transform Find(Transform from, string name)
        {
            if (from.name == name) return from;
            for (int i = 0; i < from.childCount; i++)
            {
                var found = Find(from.GetChild(i), name);
                if (found != null) return found;
            }
            return null;
        }
    }

    public static class AvatarBuilder
    {
        public static Avatar BuildHumanAvatar(GameObject go, HumanDescription humanDescription) =>
            new Avatar { isValid = true, isHuman = true, humanDescription = humanDescription };
    }
}

namespace UnityEngine.Events
{
    public delegate void UnityAction();

    public delegate void UnityAction<T>(T argument);

    public class UnityEvent
    {
        readonly List<UnityAction> _calls = new List<UnityAction>();

        public void AddListener(UnityAction call) => _calls.Add(call);

        public void RemoveListener(UnityAction call) => _calls.Remove(call);

        public void Invoke() => _calls.ForEach(call => call());
    }

    public class UnityEvent<T>
    {
        readonly List<UnityAction<T>> _calls = new List<UnityAction<T>>();

        public void AddListener(UnityAction<T> call) => _calls.Add(call);

        public void RemoveListener(UnityAction<T> call) => _calls.Remove(call);

        public void Invoke(T argument) => _calls.ForEach(call => call(argument));
    }
}
