// Stands in for UnityEditor's undo: whole objects, as they are serialized, in two stacks.
using System.Collections.Generic;
using UnityEngine;

namespace UnityEditor
{
    public static class Undo
    {
        static readonly Stack<Step> Done = new Stack<Step>();
        static readonly Stack<Step> Undone = new Stack<Step>();

        public delegate void UndoRedoCallback();

        public static UndoRedoCallback undoRedoPerformed { get; set; }

        /// <summary>Not Unity's: names of the steps that can be undone, the last one first.</summary>
        public static IEnumerable<string> Names
        {
            get
            {
                foreach (var step in Done) yield return step.Name;
            }
        }

        public static void RegisterCompleteObjectUndo(Object objectToUndo, string name)
        {
            Done.Push(new Step(objectToUndo, name));
            Undone.Clear();
        }

        // The stub does not bring destroyed objects back.
        public static void DestroyObjectImmediate(Object objectToUndo) => Object.DestroyImmediate(objectToUndo, true);

        public static void ClearUndo(Object identifier)
        {
            Remove(Done, identifier);
            Remove(Undone, identifier);
        }

        public static void PerformUndo() => Go(Done, Undone);

        public static void PerformRedo() => Go(Undone, Done);

        static void Go(Stack<Step> from, Stack<Step> to)
        {
            if (from.Count == 0) return;
            var step = from.Pop();
            to.Push(new Step(step.Target, step.Name));
            Serialization.Copy(step.Before, step.Target);
            undoRedoPerformed?.Invoke();
        }

        static void Remove(Stack<Step> steps, Object target)
        {
            var kept = new List<Step>(steps);
            kept.RemoveAll(step => ReferenceEquals(step.Target, target));
            kept.Reverse();
            steps.Clear();
            foreach (var step in kept) steps.Push(step);
        }

        sealed class Step
        {
            public Step(Object target, string name)
            {
                (Target, Name) = (target, name);
                Before = Serialization.Copy(target);
            }

            public Object Target { get; }

            public Object Before { get; }

            public string Name { get; }
        }
    }
}
