using UnityEditor;
using UnityEngine;

namespace MotionR1.Editor
{
    /// <summary>Clips in the project, each with its passport inside.</summary>
    public static class ClipAsset
    {
        /// <summary>Writes a clip and its passport to one asset. An asset that is there keeps its GUID, so whatever uses it
        /// gets the new motion.</summary>
        public static AnimationClip Save(string path, AnimationClip clip, MotionPassport passport)
        {
            var old = AssetDatabase.LoadAssetAtPath<AnimationClip>(path);
            if (old == null)
            {
                AssetDatabase.CreateAsset(clip, path);
                old = clip;
            }
            else
            {
                Overwrite(old, clip);
            }
            // Undo brings the old clip back, and so it has to bring its passport.
            var before = PassportOf(path);
            if (before == null && passport != null) AssetDatabase.AddObjectToAsset(passport, old);
            else if (before != null && passport == null) Undo.DestroyObjectImmediate(before);
            else if (before != null) Overwrite(before, passport);
            EditorUtility.SetDirty(old);
            AssetDatabase.SaveAssets();
            return old;
        }

        static void Overwrite(Object old, Object by)
        {
            Undo.RegisterCompleteObjectUndo(old, "Bake motion");
            by.name = old.name;
            EditorUtility.CopySerialized(by, old);
            Object.DestroyImmediate(by);
        }

        /// <summary>Finds the passport in a clip's asset; null if there is none.</summary>
        public static MotionPassport PassportOf(string path)
        {
            foreach (var part in AssetDatabase.LoadAllAssetsAtPath(path))
                if (part is MotionPassport passport) return passport;
            return null;
        }
    }
}
