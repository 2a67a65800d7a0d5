// Stands in for UnityEngine.UIElements: a tree that holds values and raises changes; it lays out nothing, and what is painted
// is remembered as lines.
using System;
using System.Collections.Generic;

namespace UnityEngine
{
    public struct Vector2
    {
        public float x, y;

        public Vector2(float x, float y) => (this.x, this.y) = (x, y);

        public static implicit operator Vector2(Vector3 v) => new Vector2(v.x, v.y);
    }

    public struct Rect
    {
        public Rect(float x, float y, float width, float height) => (this.width, this.height) = (width, height);

        public float width { get; set; }

        public float height { get; set; }
    }

    public struct Color
    {
        public float r, g, b, a;

        public Color(float r, float g, float b) => (this.r, this.g, this.b, a) = (r, g, b, 1);

        public static Color gray => new Color(0.5f, 0.5f, 0.5f);
    }

    public enum KeyCode
    {
        None = 0,
        Return = 13,
        Escape = 27,
        Space = 32,
    }

    public static class GUILayout
    {
        public static void BeginArea(Rect screenRect) => throw new NotSupportedException("the stub draws nothing");

        public static void EndArea()
        {
        }

        public static void BeginHorizontal()
        {
        }

        public static void EndHorizontal()
        {
        }

        public static string TextField(string text) => text;

        public static bool Button(string text) => false;

        public static void Label(string text)
        {
        }
    }

    public class GUIContent
    {
        public GUIContent(string text) => this.text = text;

        public string text { get; set; }
    }

    [Flags]
    public enum HideFlags
    {
        None = 0,
        HideAndDontSave = 61,
    }
}

namespace UnityEngine.UIElements
{
    public enum FlexDirection
    {
        Column,
        Row = 2,
    }

    public enum DisplayStyle
    {
        Flex,
        None,
    }

    public struct StyleFloat
    {
        public float value { get; set; }

        public static implicit operator StyleFloat(float value) => new StyleFloat { value = value };
    }

    public struct StyleLength
    {
        public float value { get; set; }

        public static implicit operator StyleLength(float value) => new StyleLength { value = value };
    }

    public struct StyleColor
    {
        public Color value { get; set; }

        public static implicit operator StyleColor(Color value) => new StyleColor { value = value };
    }

    public struct StyleEnum<T> where T : struct, IConvertible
    {
        public T value { get; set; }

        public static implicit operator StyleEnum<T>(T value) => new StyleEnum<T> { value = value };
    }

    public interface IStyle
    {
        StyleFloat flexGrow { get; set; }

        StyleLength minHeight { get; set; }

        StyleLength height { get; set; }

        StyleColor color { get; set; }

        StyleColor backgroundColor { get; set; }

        StyleEnum<FlexDirection> flexDirection { get; set; }

        StyleEnum<DisplayStyle> display { get; set; }
    }

    sealed class Style : IStyle
    {
        public StyleFloat flexGrow { get; set; }

        public StyleLength minHeight { get; set; }

        public StyleLength height { get; set; }

        public StyleColor color { get; set; }

        public StyleColor backgroundColor { get; set; }

        public StyleEnum<FlexDirection> flexDirection { get; set; }

        public StyleEnum<DisplayStyle> display { get; set; }
    }

    public interface IEventHandler
    {
    }

    public abstract class EventBase
    {
        public IEventHandler target { get; set; }
    }

    public class KeyDownEvent : EventBase
    {
        public KeyCode keyCode { get; set; }

        public bool ctrlKey { get; set; }

        public bool commandKey { get; set; }
    }

    public class FocusOutEvent : EventBase
    {
    }

    public class PointerMoveEvent : EventBase
    {
        public int pressedButtons { get; set; }

        public Vector3 deltaPosition { get; set; }
    }

    public class ChangeEvent<T> : EventBase
    {
        public T newValue { get; set; }
    }

    public delegate void EventCallback<in T>(T evt);

    public class Painter2D
    {
        public float lineWidth { get; set; }

        public Color strokeColor { get; set; }

        readonly List<(Vector2 from, Vector2 to)> _path = new List<(Vector2, Vector2)>();
        Vector2 _at;

        /// <summary>Not Unity's: every line that was drawn.</summary>
        public List<(Vector2 from, Vector2 to, Color color, float width)> Lines { get; } =
            new List<(Vector2, Vector2, Color, float)>();

        public void BeginPath() => _path.Clear();

        public void MoveTo(Vector2 to) => _at = to;

        public void LineTo(Vector2 to)
        {
            _path.Add((_at, to));
            _at = to;
        }

        public void Stroke()
        {
            foreach (var (from, to) in _path) Lines.Add((from, to, strokeColor, lineWidth));
        }
    }

    public class MeshGenerationContext
    {
        public Painter2D painter2D { get; } = new Painter2D();
    }

    public class VisualElement : IEventHandler
    {
        readonly List<VisualElement> _children = new List<VisualElement>();
        readonly List<Delegate> _callbacks = new List<Delegate>();

        public IStyle style { get; } = new Style();

        public string tooltip { get; set; }

        public bool enabledSelf { get; private set; } = true;

        /// <summary>Unity's own is read-only: layout sets it, which is left to tests here.</summary>
        public Rect contentRect { get; set; } = new Rect { width = 400, height = 300 };

        public Action<MeshGenerationContext> generateVisualContent { get; set; }

        public int childCount => _children.Count;

        public VisualElement this[int index] => _children[index];

        public void Add(VisualElement child) => _children.Add(child);

        public void Clear() => _children.Clear();

        public void SetEnabled(bool value) => enabledSelf = value;

        public void MarkDirtyRepaint() => generateVisualContent?.Invoke(new MeshGenerationContext());

        public void RegisterCallback<T>(EventCallback<T> callback) where T : EventBase => _callbacks.Add(callback);

        /// <summary>Not Unity's: what a user does.</summary>
        public void Raise<T>(T raised) where T : EventBase
        {
            foreach (var callback in _callbacks.ToArray()) (callback as EventCallback<T>)?.Invoke(raised);
        }
    }

    public class TextElement : VisualElement
    {
        public string text { get; set; } = "";
    }

    public class Label : TextElement
    {
        public Label(string text = "") => this.text = text;
    }

    public class Button : TextElement
    {
        readonly Action _clicked;

        public Button(Action clickEvent) => _clicked = clickEvent;

        /// <summary>Not Unity's: what a user does.</summary>
        public void Click() => _clicked();
    }

    public class BaseField<T> : VisualElement
    {
        T _value;

        public BaseField(string label) => this.label = label;

        public string label { get; set; }

        public T value
        {
            get => _value;
            set
            {
                if (EqualityComparer<T>.Default.Equals(_value, value)) return;
                _value = value;
                Raise(new ChangeEvent<T> { newValue = value });
            }
        }

        public void SetValueWithoutNotify(T newValue) => _value = newValue;
    }

    public static class INotifyValueChangedExtensions
    {
        public static bool RegisterValueChangedCallback<T>(this BaseField<T> control,
            EventCallback<ChangeEvent<T>> callback)
        {
            control.RegisterCallback(callback);
            return true;
        }
    }

    public class TextField : BaseField<string>
    {
        public TextField(string label = null) : base(label)
        {
        }

        public bool multiline { get; set; }

        public bool isDelayed { get; set; }

        public bool isPasswordField { get; set; }
    }

    public class FloatField : BaseField<float>
    {
        public FloatField(string label = null) : base(label)
        {
        }

        public bool isDelayed { get; set; }
    }

    public class Toggle : BaseField<bool>
    {
        public Toggle(string label = null) : base(label)
        {
        }
    }

    public class Slider : BaseField<float>
    {
        public Slider() : base(null)
        {
        }

        public float lowValue { get; set; }

        public float highValue { get; set; } = 10;
    }

    public class SliderInt : BaseField<int>
    {
        public SliderInt(string label, int start, int end) : base(label)
        {
        }

        public bool showInputField { get; set; }
    }
}
