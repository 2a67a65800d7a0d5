"""The analyzer that game code goes through as it is compiled: what is planted is found, and nothing else."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

PLANTED = {
    "MR001": (
        "var methods = this.GetType().GetMethods();",
        "var made = System.Activator.CreateInstance(typeof(int));",
        "object kept = typeof(string).Assembly;",
        "System.Func<System.Type, object> all = type => type.GetFields();",
        "System.Reflection.MethodInfo method = null; System.GC.KeepAlive(method);",
        "new System.Action(() => { }).DynamicInvoke();",
        'var t = System.Type.GetType("System.Int32");',
        "var made = System.Runtime.Serialization.FormatterServices.GetUninitializedObject(typeof(int));",
    ),
    "MR002": (
        "dynamic anything = 1;",
        "System.Collections.Generic.List<dynamic> many = null; System.GC.KeepAlive(many);",
        "var one = System.Linq.Expressions.Expression.Constant(1);",
        "System.Linq.Expressions.Expression<System.Func<int>> f = () => 1; f.Compile();",
        'System.Reflection.Emit.DynamicMethod method = new("f", null, null); System.GC.KeepAlive(method);',
        "var call = System.Runtime.InteropServices.Marshal.GetDelegateForFunctionPointer<System.Action>(default);",
    ),
    "MR003": (
        "var found = NUnit.Framework.Assert.Counter;",
        "NUnit.Framework.Assert.Pass();",
    ),
    "MR004": (
        "System.Threading.Tasks.Task.Run(() => { });",
        "new System.Threading.Thread(() => { }).Start();",
        "System.Threading.Tasks.Task.CompletedTask.Wait();",
        "var timer = new System.Threading.Timer(_ => { });",
    ),
    # Not in .NET Standard 2.1, or not in C# 9: the compiler refuses them itself.
    "CS0234": ("var text = System.Text.Json.JsonSerializer.Serialize(1);",),
    "CS0246": ("var handler = new SocketsHttpHandler();",),
    "CS1061": ("bool same = new System.Net.Http.HttpRequestMessage().VersionPolicy != 0;",),
    "CS8773": ("} public record struct R(int A); void G() {",),
    "CS0227": ("unsafe { int one = 1; int* at = &one; *at = 2; }",),
}
SOUND = """
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
// System.Reflection, dynamic and Activator.CreateInstance in a comment
namespace Planted
{
    [Serializable]
    sealed class Sound
    {
        public string Emit => "System.Reflection.Emit, dynamic";  // a name is not the thing
        public Type Kind => typeof(Sound);
        public bool Same(object other) => other.GetType() == Kind && Kind.Name == nameof(Sound);
        public async Task<List<int>> Numbers() { await Task.Yield(); return Enumerable.Range(0, 3).ToList(); }
        public T Default<T>() where T : new() => default;
    }
}
"""


def test_what_is_planted_is_found_and_what_is_sound_is_not(run_program: Callable[..., str], tmp_path: Path):
    expected: dict[str, str | None] = {"sound.cs": None}
    (tmp_path / "sound.cs").write_text(SOUND)
    for rule, snippets in PLANTED.items():
        for number, snippet in enumerate(snippets):
            name = f"{rule}_{number}.cs"
            source = f"namespace Planted {{ sealed class {rule}_{number} {{ void F() {{ {snippet} }} }} }}"
            (tmp_path / name).write_text(source)
            expected[name] = rule
    build = Path(__file__).with_name("build.py")
    out = tmp_path / "out"
    out.mkdir()
    files = [tmp_path / name for name in expected]
    printed = run_program(sys.executable, build, "check", Path(__file__).parents[2] / ".csharp", out, *files)
    found: dict[str, set[str]] = {name: set() for name in expected}
    for name, rule in re.findall(r"/(\w+\.cs)\(\d+,\d+\): (?:error|warning) (\w+):", printed):
        found[name].add(rule)
    for name, rule in expected.items():
        is_told = rule in found[name] if rule else not found[name]
        assert is_told, f"{name}: {found[name]}\n{(tmp_path / name).read_text()}"
