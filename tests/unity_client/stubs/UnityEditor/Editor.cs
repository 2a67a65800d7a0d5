// Stands in for UnityEditor: windows, settings, assets in memory, and the events of the editor's life.
using System;
using System.Collections.Generic;
using System.Linq;
using UnityEngine;
using UnityEngine.UIElements;
using Object = UnityEngine.Object;

namespace UnityEditor
{
    public class EditorWindow : ScriptableObject
    {
        public VisualElement rootVisualElement { get; } = new VisualElement();

        public static T GetWindow<T>(string title) where T : EditorWindow, new() => new T();
    }

    public class SceneView : EditorWindow
    {
        public static void RepaintAll()
        {
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    public sealed class MenuItem : Attribute
    {
        public MenuItem(string itemName) => menuItem = itemName;

        public string menuItem { get; }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class FilePathAttribute : Attribute
    {
        public FilePathAttribute(string relativePath, Location location)
        {
        }

        public enum Location
        {
            PreferencesFolder,
            ProjectFolder,
        }
    }

    public class ScriptableSingleton<T> : ScriptableObject where T : ScriptableObject, new()
    {
        public static T instance { get; } = new T();

        /// <summary>Not Unity's: told of every save.</summary>
        public event Action Saved;

        protected void Save(bool saveAsText) => Saved?.Invoke();
    }

    public static class EditorUserSettings
    {
        static readonly Dictionary<string, string> Values = new Dictionary<string, string>();

        public static string GetConfigValue(string name) => Values.TryGetValue(name, out string value) ? value : null;

        public static void SetConfigValue(string name, string value) => Values[name] = value;
    }

    public enum SettingsScope
    {
        User,
        Project,
    }

    [AttributeUsage(AttributeTargets.Method)]
    public sealed class SettingsProviderAttribute : Attribute
    {
    }

    public class SettingsProvider
    {
        public SettingsProvider(string path, SettingsScope scopes) => settingsPath = path;

        public string settingsPath { get; }

        public string label { get; set; }

        public IEnumerable<string> keywords { get; set; }

        public Action<string, VisualElement> activateHandler { get; set; }
    }

    public static class SettingsService
    {
        public static EditorWindow OpenProjectSettings(string settingsPath) => null;
    }

    public static class AssemblyReloadEvents
    {
        public delegate void AssemblyReloadCallback();

        public static event AssemblyReloadCallback beforeAssemblyReload;

        /// <summary>Not Unity's: what the editor does.</summary>
        public static void Reload() => beforeAssemblyReload?.Invoke();
    }

    public enum PlayModeStateChange
    {
        EnteredEditMode,
        ExitingEditMode,
        EnteredPlayMode,
        ExitingPlayMode,
    }

    public static class EditorApplication
    {
        public delegate void CallbackFunction();

        public static event Action<PlayModeStateChange> playModeStateChanged;

        public static event Action quitting;

        public static CallbackFunction update { get; set; }

        public static double timeSinceStartup { get; set; }

        /// <summary>Not Unity's: what the editor does.</summary>
        public static void Change(PlayModeStateChange change) => playModeStateChanged?.Invoke(change);

        /// <summary>Not Unity's either.</summary>
        public static void Quit() => quitting?.Invoke();
    }

    public class GenericMenu
    {
        public delegate void MenuFunction();

        /// <summary>Not Unity's: the menu that a user sees.</summary>
        public static GenericMenu Shown { get; private set; }

        /// <summary>Not Unity's: what stands in it.</summary>
        public List<(string text, bool on, MenuFunction choose)> Items { get; } =
            new List<(string, bool, MenuFunction)>();

        public void AddItem(GUIContent content, bool on, MenuFunction func) => Items.Add((content.text, on, func));

        public void AddSeparator(string path)
        {
        }

        public void ShowAsContext() => Shown = this;

        /// <summary>Not Unity's: what a user does.</summary>
        public void Choose(string text) => Items.Single(item => item.text == text).choose();
    }

    public static class Selection
    {
        public static Object activeObject { get; set; }

        public static GameObject activeGameObject => activeObject as GameObject;
    }

    public static class EditorUtility
    {
        /// <summary>Not Unity's: what a user chooses.</summary>
        public static string Chosen { get; set; } = "";

        public static string SaveFilePanelInProject(string title, string name, string extension, string message) =>
            Chosen;

        public static string OpenFilePanel(string title, string directory, string extension) => Chosen;

        public static void SetDirty(Object target)
        {
        }

        public static void CopySerialized(Object source, Object dest) => Serialization.Copy(source, dest);
    }

    public static class AssetDatabase
    {
        static readonly Dictionary<string, List<Object>> Assets = new Dictionary<string, List<Object>>();

        public static void CreateAsset(Object asset, string path) => Assets[path] = new List<Object> { asset };

        public static void AddObjectToAsset(Object part, Object asset) => Assets[GetAssetPath(asset)].Add(part);

        public static string GetAssetPath(Object asset) =>
            Assets.FirstOrDefault(entry => entry.Value.Any(part => part == asset)).Key ?? "";

        public static T LoadAssetAtPath<T>(string path) where T : Object =>
            LoadAllAssetsAtPath(path).OfType<T>().FirstOrDefault();

        public static Object[] LoadAllAssetsAtPath(string path) => Assets.TryGetValue(path, out var parts)
            ? parts.Where(part => part != null).ToArray() : Array.Empty<Object>();

        public static void SaveAssets()
        {
        }
    }

    public struct EditorCurveBinding
    {
        public string path;
        public Type type;
        public string propertyName;

        public static EditorCurveBinding FloatCurve(string path, Type type, string property) =>
            new EditorCurveBinding { path = path, type = type, propertyName = property };
    }

    public class AnimationClipSettings
    {
        public bool loopTime { get; set; }

        public bool loopBlend { get; set; }
    }

    public static class AnimationUtility
    {
        public enum TangentMode
        {
            Free,
            Auto,
            Linear,
        }

        public static void SetEditorCurve(AnimationClip clip, EditorCurveBinding binding, AnimationCurve curve) =>
            clip.Curves[(binding.path, binding.type, binding.propertyName)] = curve;

        public static void SetKeyLeftTangentMode(AnimationCurve curve, int index, TangentMode mode)
        {
        }

        public static void SetKeyRightTangentMode(AnimationCurve curve, int index, TangentMode mode)
        {
        }

        public static AnimationClipSettings GetAnimationClipSettings(AnimationClip clip) =>
            clip.Settings as AnimationClipSettings ?? new AnimationClipSettings();

        public static void SetAnimationClipSettings(AnimationClip clip, AnimationClipSettings settings) =>
            clip.Settings = settings;
    }
}
