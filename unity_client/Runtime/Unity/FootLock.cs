using MotionR1.Core;
using UnityEngine;

namespace MotionR1
{
    /// <summary>Keeps feet where they stand. Legs of other proportions than the source's slide though every angle is
    /// right; so while a foot is in contact, the leg is bent until the foot is back over the point where it came down.
    /// Heights are the motion's.</summary>
    public sealed class FootLock
    {
        /// <summary>How long a foot that leaves the floor takes to go back to the motion, seconds.</summary>
        public const float ReleaseS = 0.2f;

        // Share of the leg beyond which the foot is dragged along: the character was moved, or is blocked.
        const float MaxOffset = 0.25f;

        readonly Transform _root;
        readonly Leg[] _legs;

        /// <summary>Finds the legs of a character whose bones are there.</summary>
        public FootLock(Animator animator)
        {
            _root = animator.transform;
            _legs = new[]
            {
                new Leg(animator, HumanBodyBones.LeftUpperLeg, HumanBodyBones.LeftLowerLeg, HumanBodyBones.LeftFoot,
                    HumanBodyBones.LeftToes, FootContacts.LeftAnkle, FootContacts.LeftFoot),
                new Leg(animator, HumanBodyBones.RightUpperLeg, HumanBodyBones.RightLowerLeg, HumanBodyBones.RightFoot,
                    HumanBodyBones.RightToes, FootContacts.RightAnkle, FootContacts.RightFoot),
            };
        }

        /// <summary>Takes the standing feet along where somebody else has moved the character from the given place: a
        /// lift, for example.</summary>
        public void Carry(Vector3 fromPosition, Quaternion fromRotation)
        {
            var turn = _root.rotation * Quaternion.Inverse(fromRotation);
            foreach (var leg in _legs) leg.Anchor = _root.position + turn * (leg.Anchor - fromPosition);
        }

        /// <summary>Forgets where the feet stand; they go back to the motion.</summary>
        public void Release()
        {
            foreach (var leg in _legs) leg.Contact = FootContacts.None;
        }

        /// <summary>Forgets also how far the feet are from the motion: the next one has other places for them.</summary>
        public void Reset()
        {
            foreach (var leg in _legs) leg.Reset();
        }

        /// <summary>Corrects the pose that the rig has been given.</summary>
        /// <param name="contacts">Feet on the floor.</param>
        /// <param name="deltaS">Time since the last call, seconds.</param>
        /// <param name="weight">How much of the correction is wanted, 0 to 1.</param>
        public void Apply(FootContacts contacts, float deltaS, float weight)
        {
            foreach (var leg in _legs) leg.Apply(_root, contacts, deltaS, weight);
        }

        sealed class Leg
        {
            readonly Transform _upper, _lower, _foot, _toes;
            readonly FootContacts _ankleContact, _toesContact;
            Vector3 _offset;    // from the motion's foot to the shown one, level
            Vector3 _released;  // the offset when the foot left the floor
            float _sinceS;

            public Leg(Animator animator, HumanBodyBones upper, HumanBodyBones lower, HumanBodyBones foot,
                HumanBodyBones toes, FootContacts ankleContact, FootContacts toesContact)
            {
                _upper = animator.GetBoneTransform(upper);
                _lower = animator.GetBoneTransform(lower);
                _foot = animator.GetBoneTransform(foot);
                _toes = animator.GetBoneTransform(toes);
                (_ankleContact, _toesContact) = (ankleContact, toesContact);
            }

            /// <summary>Where the point of contact stands, in the world.</summary>
            public Vector3 Anchor { get; set; }

            /// <summary>What of the foot stands there.</summary>
            public FootContacts Contact { get; set; }

            public void Reset() =>
                (Contact, _offset, _released) = (FootContacts.None, Vector3.zero, Vector3.zero);

            public void Apply(Transform root, FootContacts contacts, float deltaS, float weight)
            {
                if (_upper == null || _lower == null || _foot == null) return;
                // The heel may leave the floor before the toes do: then the foot turns about them.
                var contact = contacts & _ankleContact;
                if (contact == FootContacts.None) contact = contacts & _toesContact;
                var up = root.rotation * Vector3.up;
                var point = (contact == _toesContact && _toes != null ? _toes : _foot).position;
                if (contact != FootContacts.None)
                {
                    if (contact != Contact) Anchor = point + _offset;
                    float longest = MaxOffset * ((_lower.position - _upper.position).magnitude +
                        (_foot.position - _lower.position).magnitude);
                    _offset = Level(Anchor - point, up);
                    float length = _offset.magnitude;
                    if (length > longest)
                    {
                        _offset *= longest / length;
                        Anchor = point + _offset;
                    }
                    (_released, _sinceS) = (_offset, 0);
                }
                else
                {
                    _sinceS += deltaS;
                    float left = Mathf.Clamp01(1 - _sinceS / ReleaseS);
                    _offset = _released * (left * left * (3 - 2 * left));
                }
                Contact = contact;
                var offset = _offset * weight;
                if (offset.sqrMagnitude > 0)
                    TwoBoneIk.Reach(_upper, _lower, _foot, _foot.position + offset, root.rotation * Vector3.left);
            }

            static Vector3 Level(Vector3 v, Vector3 up) => v - up * Vector3.Dot(v, up);
        }
    }
}
