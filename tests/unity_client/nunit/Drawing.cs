using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using UnityEngine;
using UnityEngine.UIElements;

namespace MotionR1.Tests
{
    /// <summary>Draws as SVG what a window holds: its own elements with their words, values and painted lines, laid out in rows
    /// and columns. It is a drawing for the documentation; how Unity's editor looks, only Unity knows.</summary>
    sealed class Drawing
    {
        const float Line = 20, Gap = 4, LetterWidth = 7.2f;

        readonly StringBuilder _svg = new StringBuilder();
        readonly float _width, _height;

        public Drawing(float width, float height, string background)
        {
            (_width, _height) = (width, height);
            Box(0, 0, width, height, background);
        }

        /// <summary>Draws a tree of elements from the top down; returns where it ends.</summary>
        public float Element(VisualElement element, float x, float y, float width)
        {
            if (element.style.display.value == DisplayStyle.None) return y;
            float height = Height(element, width);
            if (element.style.backgroundColor.value.a > 0)
                Box(x, y, width, height, Hex(element.style.backgroundColor.value));
            if (element.childCount == 0)
            {
                Leaf(element, x, y, width, height);
                return y + height;
            }
            var (atX, atY) = (x, y);
            foreach (var (child, childWidth) in Widths(element, width))
            {
                float end = Element(child, atX, atY, childWidth);
                if (IsRow(element)) atX += childWidth + Gap;
                else atY = end + Gap;
            }
            return y + height;
        }

        public void Stroke(float fromX, float fromY, float toX, float toY, string color, float width) =>
            Write($"<line x1='{N(fromX)}' y1='{N(fromY)}' x2='{N(toX)}' y2='{N(toY)}' stroke='{color}' " +
                $"stroke-width='{N(width)}' stroke-linecap='round'/>");

        public void Text(string text, float x, float y, string color = "#d2d2d2") =>
            Write($"<text x='{N(x)}' y='{N(y)}' fill='{color}'>{System.Security.SecurityElement.Escape(text)}</text>");

        public void Save(string path) => File.WriteAllText(path,
            $"<svg xmlns='http://www.w3.org/2000/svg' width='{N(_width)}' height='{N(_height)}' " +
            $"font-family='sans-serif' font-size='12'>\n{_svg}</svg>\n");

        void Leaf(VisualElement element, float x, float y, float width, float height)
        {
            switch (element)
            {
                case Button button:
                    Box(x, y, width, height, button.enabledSelf ? "#585858" : "#444444");
                    Text(button.text, x + 6, y + 14, button.enabledSelf ? "#eeeeee" : "#8a8a8a");
                    return;
                case TextElement text:
                    var color = text.style.color.value;
                    Text(text.text, x, y + 14, color.a > 0 ? Hex(color) : "#d2d2d2");
                    return;
                case TextField field: Field(field.label, field.value, x, y, width); return;
                case FloatField field: Field(field.label, N(field.value), x, y, width); return;
                case SliderInt field: Field(field.label, field.value.ToString(), x, y, width); return;
                case Toggle toggle:
                    Box(x, y + 3, 13, 13, "#2a2a2a");
                    if (toggle.value) Text("x", x + 3, y + 14);
                    Text(toggle.label, x + 18, y + 14);
                    return;
                case Slider slider:
                    Box(x, y + 9, width, 2, "#5e5e5e");
                    Box(x + (width - 8) * slider.value / Math.Max(0.001f, slider.highValue), y + 4, 8, 12, "#999999");
                    return;
            }
            // What is painted: figures and contact marks.
            element.contentRect = new Rect(0, 0, width, height);
            var painted = new MeshGenerationContext();
            element.generateVisualContent?.Invoke(painted);
            if (element.style.minHeight.value > 0) Box(x, y, width, height, "#303030");
            foreach (var (from, to, stroke, lineWidth) in painted.painter2D.Lines)
                Stroke(x + from.x, y + from.y, x + to.x, y + to.y, Hex(stroke), lineWidth);
        }

        void Field(string label, string value, float x, float y, float width)
        {
            float labelWidth = label == null ? 0 : label.Length * LetterWidth + 10;
            if (label != null) Text(label, x, y + 14);
            Box(x + labelWidth, y, width - labelWidth, Line, "#2a2a2a");
            Text(value, x + labelWidth + 5, y + 14);
        }

        /// <summary>How high a tree is that is so wide.</summary>
        public static float Height(VisualElement element, float width)
        {
            if (element.style.display.value == DisplayStyle.None) return 0;
            if (element.childCount == 0)
                return Math.Max(element.style.height.value, element.style.minHeight.value) is var fixedHeight &&
                    fixedHeight > 0 ? fixedHeight : element.GetType() == typeof(VisualElement) ? 0 : Line;
            var heights = Widths(element, width).Select(child => Height(child.child, child.width)).ToList();
            return IsRow(element) ? heights.Max() : heights.Sum() + Gap * (heights.Count(height => height > 0) - 1);
        }

        // Who grows shares what the others leave.
        static IEnumerable<(VisualElement child, float width)> Widths(VisualElement element, float width)
        {
            var children = Enumerable.Range(0, element.childCount).Select(i => element[i]).ToList();
            if (!IsRow(element)) return children.Select(child => (child, width));
            bool Grows(VisualElement child) => child.style.flexGrow.value > 0 || child is TextField || child is SliderInt;
            float left = width - Gap * (children.Count - 1) - children.Where(child => !Grows(child)).Sum(Natural);
            int numGrowing = children.Count(Grows);
            return children.Select(child => (child, Grows(child) ? left / numGrowing : Natural(child)));
        }

        static float Natural(VisualElement element) => element switch
        {
            TextElement text => text.text.Length * LetterWidth + 12,
            FloatField _ => 50,
            Toggle toggle => toggle.label.Length * LetterWidth + 30,
            _ => 100,
        };

        static bool IsRow(VisualElement element) => element.style.flexDirection.value == FlexDirection.Row;

        void Box(float x, float y, float width, float height, string color) =>
            Write($"<rect x='{N(x)}' y='{N(y)}' width='{N(width)}' height='{N(height)}' rx='2' fill='{color}'/>");

        void Write(string line) => _svg.Append(line).Append('\n');

        static string Hex(Color color) =>
            $"#{(int)(color.r * 255):x2}{(int)(color.g * 255):x2}{(int)(color.b * 255):x2}";

        static string N(float number) => number.ToString("0.##", CultureInfo.InvariantCulture);
    }
}
