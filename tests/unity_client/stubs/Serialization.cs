// Stands in for Unity's serializer, by its published rules: of an object it keeps public fields and those marked
// [SerializeField], if they are numbers, text, enums, references to objects, [Serializable] types, arrays or lists.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Reflection;

namespace UnityEngine
{
    public static class Serialization
    {
        /// <summary>Makes an object of the same type that holds copies of what is serialized, and nothing else.</summary>
        public static Object Copy(Object source)
        {
            var copy = (Object)Activator.CreateInstance(source.GetType());
            Copy(source, copy);
            return copy;
        }

        /// <summary>Makes what a domain reload leaves of an object: there private fields are kept too, unless they are marked
        /// [NonSerialized], and what was null is empty afterwards.</summary>
        public static Object Reload(Object source)
        {
            var after = (Object)Activator.CreateInstance(source.GetType());
            (after.name, after.hideFlags) = (source.name, source.hideFlags);
            CopyFields(source.GetType(), source, after, field => IsSerialized(field) ||
                (!field.IsInitOnly && !field.IsNotSerialized && CanBeSerialized(field.FieldType)));
            return after;
        }

        /// <summary>Copies what is serialized; the rest of the target stays as it is.</summary>
        public static void Copy(Object source, Object target)
        {
            (target.name, target.hideFlags) = (source.name, source.hideFlags);
            if (source is AnimationClip from && target is AnimationClip to)
            {
                var curves = new Dictionary<(string, Type, string), AnimationCurve>(from.Curves);
                to.Curves.Clear();
                foreach (var curve in curves) to.Curves[curve.Key] = curve.Value;
                (to.frameRate, to.Settings) = (from.frameRate, from.Settings);
                return;
            }
            CopyFields(source.GetType(), source, target, IsSerialized);
        }

        static void CopyFields(Type type, object source, object target, Predicate<FieldInfo> isKept)
        {
            const BindingFlags flags = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic |
                BindingFlags.DeclaredOnly;
            // What Unity's own classes hold is not serialized here.
            for (; type != null && !IsOfTheEngine(type); type = type.BaseType)
                foreach (var field in type.GetFields(flags))
                    if (isKept(field)) field.SetValue(target, Value(field.FieldType, field.GetValue(source), field));
        }

        static object Value(Type type, object value, FieldInfo field)
        {
            if (type.IsPrimitive || type.IsEnum || type == typeof(string) || typeof(Object).IsAssignableFrom(type))
                return type == typeof(string) ? value ?? "" : value;
            if (type.IsArray || (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(List<>)))
            {
                var element = type.IsArray ? type.GetElementType() : type.GetGenericArguments()[0];
                if (typeof(IList).IsAssignableFrom(element))
                    throw new NotSupportedException($"{field.DeclaringType}.{field.Name}: lists of lists are not serialized");
                var values = (IList)value ?? Array.Empty<object>();
                var copy = type.IsArray ? Array.CreateInstance(element, values.Count) : (IList)Activator.CreateInstance(type);
                for (int i = 0; i < values.Count; i++)
                    if (type.IsArray) copy[i] = Value(element, values[i], field);
                    else copy.Add(Value(element, values[i], field));
                return copy;
            }
            if (!type.IsSerializable || type.Namespace.StartsWith("System", StringComparison.Ordinal))
                throw new NotSupportedException($"{field.DeclaringType}.{field.Name}: {type} is not serialized");
            var made = System.Runtime.Serialization.FormatterServices.GetUninitializedObject(type);
            if (value != null) CopyFields(type, value, made, IsSerialized);
            return made;
        }

        static bool IsSerialized(FieldInfo field) => !field.IsInitOnly && !field.IsNotSerialized &&
            (field.IsPublic || field.IsDefined(typeof(SerializeField), false));

        static bool CanBeSerialized(Type type)
        {
            if (type.IsPrimitive || type.IsEnum || type == typeof(string) || typeof(Object).IsAssignableFrom(type))
                return true;
            if (type.IsArray) return CanBeSerialized(type.GetElementType());
            if (type.IsGenericType)
                return type.GetGenericTypeDefinition() == typeof(List<>) && CanBeSerialized(type.GetGenericArguments()[0]);
            return type.IsSerializable && !type.Namespace.StartsWith("System", StringComparison.Ordinal) &&
                !typeof(Delegate).IsAssignableFrom(type);
        }

        static bool IsOfTheEngine(Type type) =>
            type.Namespace == "UnityEngine" || type.Namespace == "UnityEditor" || type == typeof(object);
    }
}
