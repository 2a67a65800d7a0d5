// Stands in for UnityEngine: objects, components and transforms, with parents.
using System;
using System.Collections.Generic;

namespace UnityEngine
{
    public class Object
    {
        bool _destroyed;

        public string name { get; set; } = "";

        public HideFlags hideFlags { get; set; }

        public static void DestroyImmediate(Object target) => target._destroyed = true;

        public static void DestroyImmediate(Object target, bool allowDestroyingAssets) => target._destroyed = true;

        public static bool operator ==(Object a, Object b)
        {
            bool noA = a is null || a._destroyed, noB = b is null || b._destroyed;
            return noA || noB ? noA && noB : ReferenceEquals(a, b);
        }

        public static bool operator !=(Object a, Object b) => !(a == b);

        public override bool Equals(object other) => other is Object o && this == o;

        public override int GetHashCode() => System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(this);
    }

    public class GameObject : Object
    {
        readonly List<Component> _components = new List<Component>();

        public GameObject(string name)
        {
            this.name = name;
            transform = AddComponent<Transform>();
        }

        public Transform transform { get; }

        public T AddComponent<T>() where T : Component, new()
        {
            var component = new T { gameObject = this };
            _components.Add(component);
            return component;
        }

        public T GetComponent<T>() where T : class => _components.Find(c => c is T) as T;

        public T GetComponentInChildren<T>() where T : class => GetComponent<T>();
    }

    public class Component : Object
    {
        public GameObject gameObject { get; internal set; }

        public Transform transform => gameObject.transform;

        public new string name
        {
            get => gameObject.name;
            set => gameObject.name = value;
        }

        public T GetComponent<T>() where T : class => gameObject.GetComponent<T>();
    }

    public class Behaviour : Component
    {
        public bool enabled { get; set; } = true;

        public bool isActiveAndEnabled => enabled;
    }

    public class MonoBehaviour : Behaviour
    {
    }

    public class TextAsset : Object
    {
        public TextAsset(string text) => this.text = text;

        public string text { get; }
    }

    public class Collider : Component
    {
    }

    [Flags]
    public enum CollisionFlags
    {
        None = 0,
        Sides = 1,
    }

    public class CharacterController : Collider
    {
        /// <summary>Not Unity's: a wall, where the world ends towards +Z.</summary>
        public float WallZ { get; set; } = float.PositiveInfinity;

        public CollisionFlags Move(Vector3 motion)
        {
            var to = transform.position + motion;
            bool hit = to.z > WallZ;
            transform.position = new Vector3(to.x, to.y, Math.Min(to.z, WallZ));
            return hit ? CollisionFlags.Sides : CollisionFlags.None;
        }
    }

    public static class Application
    {
        public static string persistentDataPath { get; set; } = "";
    }

    public class Transform : Component
    {
        readonly List<Transform> _children = new List<Transform>();

        public Transform parent { get; private set; }

        public Vector3 localPosition { get; set; }

        // Unity, too, keeps rotations normalized.
        public Quaternion localRotation
        {
            get => _localRotation;
            set => _localRotation = Quaternion.Normalize(value);
        }
        Quaternion _localRotation = Quaternion.identity;

        public Vector3 localScale { get; set; } = Vector3.one;

        public int childCount => _children.Count;

        public Quaternion rotation
        {
            get => parent == null ? localRotation : parent.rotation * localRotation;
            set => localRotation = parent == null ? value : Quaternion.Inverse(parent.rotation) * value;
        }

        public Vector3 position
        {
            get => parent == null ? localPosition : parent.TransformPoint(localPosition);
            set => localPosition = parent == null ? value : parent.InverseTransformPoint(value);
        }

        public Transform GetChild(int index) => _children[index];

        public void SetParent(Transform value, bool worldPositionStays)
        {
            if (worldPositionStays) throw new NotSupportedException("the stub keeps local positions only");
            if (parent != null) parent._children.Remove(this);
            parent = value;
            if (value != null) value._children.Add(this);
        }

        public Vector3 lossyScale => new Vector3(1, 1, 1) * Size;

        public Vector3 TransformPoint(Vector3 point) => position + rotation * point * Size;

        public Vector3 InverseTransformPoint(Vector3 point) =>
            Quaternion.Inverse(rotation) * (point - position) * (1 / Size);

        // Where scales differ by axis, turned children are sheared: the stub computes none of that.
        float Size
        {
            get
            {
                var scale = localScale;
                if (scale.x != scale.y || scale.x != scale.z || scale.x <= 0)
                    throw new NotSupportedException("the stub knows one scale for all axes");
                return parent == null ? scale.x : scale.x * parent.Size;
            }
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class SerializeField : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string tooltip) => this.tooltip = tooltip;

        public string tooltip { get; }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TextAreaAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class AddComponentMenu : Attribute
    {
        public AddComponentMenu(string menuName) => componentMenu = menuName;

        public string componentMenu { get; }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class RequireComponent : Attribute
    {
        public RequireComponent(Type requiredComponent) => m_Type0 = requiredComponent;

        public Type m_Type0 { get; }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class DisallowMultipleComponent : Attribute
    {
    }

    public static class Time
    {
        public static float deltaTime { get; set; }

        public static double realtimeSinceStartupAsDouble { get; set; }
    }

    public static class Debug
    {
        /// <summary>Not Unity's: what was logged, for tests to read.</summary>
        public static List<string> Errors { get; } = new List<string>();

        /// <summary>Not Unity's either.</summary>
        public static List<string> Warnings { get; } = new List<string>();

        public static void LogError(object message, Object context) => Errors.Add(message.ToString());

        public static void LogWarning(object message, Object context) => Warnings.Add(message.ToString());
    }
}
