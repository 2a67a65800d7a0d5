"""Compile the Unity client without Unity, and run its NUnit tests on .NET.

    python tests/unity_client/build.py compile TOOLS FOLDER
    python tests/unity_client/build.py test TOOLS FOLDER [FULL_NAME ...]
    python tests/unity_client/build.py check TOOLS FOLDER FILE ...

TOOLS is what fetch_csharp_tools.sh filled; FOLDER takes the assemblies and must be fresh, since .NET loads a path once.
`check` prints what is not fit for a game in any files; the client's own are checked as they are compiled.
.NET copies the environment as it starts, so what tests read from it is set by whoever starts this program.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

STUBS = Path(__file__).parent / "stubs"
NEED_STUBS = Path(__file__).parent / "nunit"
ANALYZER = Path(__file__).parent / "analyzer"
CLIENT = Path(__file__).parents[2] / "unity_client"

DEFINES = ["UNITY_2022_3_OR_NEWER", "UNITY_EDITOR", "UNITY_INCLUDE_TESTS"]
OTHER_DEFINES = {
    "unity_6_5": [*DEFINES, "UNITY_6000_5_OR_NEWER"],
    "web_player": ["UNITY_2022_3_OR_NEWER", "UNITY_WEBGL"],
}

IGNORED = {
    "CS0649",  # a field that only serialization assigns: Unity ignores it too
    "CS1591",  # a public member without documentation: tests and stand-ins have none
    "CS1701",  # references older than the runtime
}


def start_runtime(tools: Path) -> None:
    """Load .NET and Roslyn: once per process, before anything is imported from `System`."""
    from clr_loader import get_coreclr
    from pythonnet import set_runtime

    config = Path(tempfile.mkdtemp()) / "tests.runtimeconfig.json"
    options = {
        "framework": {"name": "Microsoft.NETCore.App", "version": "8.0.4"},
        "configProperties": {"System.Globalization.Invariant": True},  # works without libicu
    }
    config.write_text(json.dumps({"runtimeOptions": options}))
    set_runtime(get_coreclr(runtime_config=str(config), dotnet_root=str(tools / "dotnet")))
    import clr

    sys.path.append(str(tools / "roslyn"))
    for name in ("Microsoft.CodeAnalysis", "Microsoft.CodeAnalysis.CSharp", "nunit.framework"):
        clr.AddReference(name)  # pyright: ignore[reportAttributeAccessIssue]: made by pythonnet


@cache
def opened(assembly: Path) -> object:
    """Open an assembly for the compiler, which keeps what it has read of it."""
    import Microsoft.CodeAnalysis as roslyn  # pyright: ignore[reportMissingImports]

    return roslyn.MetadataReference.CreateFromFile(str(assembly))


def load_analyzer(tools: Path, folder: Path) -> Callable[..., list[str]]:
    """Compile the analyzer of game code, and return what runs it on a compilation and names of assemblies."""
    from System import Array, String  # pyright: ignore[reportMissingImports]
    from System.Reflection import Assembly  # pyright: ignore[reportMissingImports]

    dll = folder / "analyzer" / "MotionR1.Analyzer.dll"
    dll.parent.mkdir()
    # It runs here, not in Unity: against the runtime's own assemblies, as Roslyn is.
    runtime = sorted(tools.glob("dotnet/shared/Microsoft.NETCore.App/*/System*.dll"))
    roslyn = sorted((tools / "roslyn").glob("Microsoft.CodeAnalysis*.dll"))
    netstandard = next(tools.glob("dotnet/shared/Microsoft.NETCore.App/*/netstandard.dll"))
    compile_assembly(dll, sources(ANALYZER), [*runtime, netstandard, *roslyn], [])
    rules = Assembly.LoadFrom(str(dll)).GetType("MotionR1.Analyzer.RuntimeRules")

    def find(compilation: object, assemblies: Sequence[Path]) -> list[str]:
        names = Array[String]([path.stem for path in assemblies])
        return list(rules.GetMethod("Find").Invoke(None, [compilation, names]))

    return find


def compilation_of(name: str, files: Sequence[Path], references: Sequence[Path], defines: Sequence[str]) -> Any:
    """Return Roslyn's compilation of C# 9 files."""
    import Microsoft.CodeAnalysis as roslyn  # pyright: ignore[reportMissingImports]
    import Microsoft.CodeAnalysis.CSharp as csharp  # pyright: ignore[reportMissingImports]
    from System import Array, String  # pyright: ignore[reportMissingImports]
    from System.Collections.Generic import List  # pyright: ignore[reportMissingImports]
    from System.Text import Encoding  # pyright: ignore[reportMissingImports]

    dialect = csharp.CSharpParseOptions(csharp.LanguageVersion.CSharp9, roslyn.DocumentationMode.Diagnose)
    dialect = dialect.WithPreprocessorSymbols(Array[String](list(defines)))
    trees, metadata = List[roslyn.SyntaxTree](), List[roslyn.MetadataReference]()
    for file in files:
        text = roslyn.Text.SourceText.From(file.read_text("utf-8-sig"), Encoding.UTF8)
        trees.Add(csharp.CSharpSyntaxTree.ParseText(text, dialect, str(file.resolve())))
    for reference in references:
        metadata.Add(opened(reference))
    options = csharp.CSharpCompilationOptions(roslyn.OutputKind.DynamicallyLinkedLibrary)
    return csharp.CSharpCompilation.Create(name, trees, metadata, options)


def told(diagnostics: Iterable[Any]) -> list[str]:
    """Return errors and warnings as text, less those that Unity ignores too."""
    import Microsoft.CodeAnalysis as roslyn  # pyright: ignore[reportMissingImports]

    return [
        diagnostic.ToString()
        for diagnostic in diagnostics
        if diagnostic.Severity >= roslyn.DiagnosticSeverity.Warning and diagnostic.Id not in IGNORED
    ]


def compile_assembly(
    dll: Path,
    files: Sequence[Path],
    references: Sequence[Path],
    defines: Sequence[str],
    analyzer: Callable[..., list[str]] | None = None,
) -> None:
    """Write `dll` and its .pdb; code of a game goes through the analyzer.

    Raises:
        SyntaxError: With every error and warning of the compiler and of the analyzer.
    """
    from System.IO import File  # pyright: ignore[reportMissingImports]

    compilation = compilation_of(dll.stem, files, references, defines)
    code, symbols = File.Create(str(dll)), File.Create(str(dll.with_suffix(".pdb")))
    found = told(compilation.Emit(code, symbols).Diagnostics)
    code.Close()
    symbols.Close()
    if analyzer is not None:
        found += analyzer(compilation, [dll, *references])
    if found:
        raise SyntaxError("\n".join(found))


def compile_client(tools: Path, folder: Path) -> None:
    """Compile all assemblies and samples, each against what its .asmdef shows it; the client with every define."""
    standard = sorted((tools / "netstandard2.1").glob("*.dll"))
    nunit = tools / "roslyn" / "nunit.framework.dll"
    core, engine = folder / "MotionR1.Core.dll", folder / "UnityEngine.dll"
    component, tests = folder / "MotionR1.dll", folder / "MotionR1.Tests.dll"
    editor_api, editor = folder / "UnityEditor.dll", folder / "MotionR1.Editor.dll"

    analyzer = load_analyzer(tools, folder)
    compile_assembly(core, sources(CLIENT / "Runtime/Core"), standard, DEFINES, analyzer)
    editor_stubs = sources(STUBS / "UnityEditor")
    compile_assembly(engine, [file for file in sources(STUBS) if file not in editor_stubs], standard, DEFINES)
    compile_assembly(editor_api, editor_stubs, [*standard, engine], DEFINES)
    compile_assembly(component, sources(CLIENT / "Runtime/Unity"), [*standard, core, engine], DEFINES, analyzer)
    for name, defines in OTHER_DEFINES.items():
        other = folder / name / component.name  # Core does not know Unity, so it is the same everywhere.
        other.parent.mkdir()
        compile_assembly(other, sources(CLIENT / "Runtime/Unity"), [*standard, core, engine], defines, analyzer)
    seen = [*standard, core, engine, component]
    compile_assembly(folder / "MotionR1.Http2.dll", sources(CLIENT / "Runtime/Http2"), seen, DEFINES, analyzer)
    compile_assembly(editor, sources(CLIENT / "Editor"), [*seen, editor_api], DEFINES)
    compile_assembly(folder / "MotionR1.Samples.dll", sources(CLIENT / "Samples~"), seen, DEFINES)
    test_sources = sources(CLIENT / "Tests/Editor") + sources(NEED_STUBS)
    compile_assembly(tests, test_sources, [*seen, editor_api, editor, nunit], DEFINES)


def check(tools: Path, folder: Path, files: Sequence[Path]) -> list[str]:
    """Return all that is not fit for a game in C# files."""
    standard = sorted((tools / "netstandard2.1").glob("*.dll"))
    # Something from outside is within reach, as it would be where a project has other packages.
    within_reach = tools / "roslyn" / "nunit.framework.dll"
    compilation = compilation_of("Checked", files, [*standard, within_reach], [])
    analyzer = load_analyzer(tools, folder)
    return told(compilation.GetDiagnostics()) + analyzer(compilation, [Path("Checked.dll"), *standard])


def sources(folder: Path) -> list[Path]:
    """Return the C# files below a folder."""
    return sorted(folder.rglob("*.cs"))


def run_tests(folder: Path, names: Sequence[str]) -> bool:
    """Run the compiled NUnit tests, all or those whose full names are given; true if some passed and none failed."""
    from NUnit.Framework import Api, Interfaces, Internal  # pyright: ignore[reportMissingImports]
    from System import Object, String  # pyright: ignore[reportMissingImports]
    from System.Collections.Generic import Dictionary  # pyright: ignore[reportMissingImports]
    from System.Reflection import Assembly  # pyright: ignore[reportMissingImports]

    class Printer(Interfaces.ITestListener):
        __namespace__ = "MotionR1.Build"  # pythonnet needs it to make a .NET type

        def TestStarted(self, _: object) -> None:
            pass

        TestOutput = SendMessage = TestStarted

        def TestFinished(self, result: object) -> None:
            test = result.Test  # pyright: ignore[reportAttributeAccessIssue]
            status = result.ResultState.Status  # pyright: ignore[reportAttributeAccessIssue]
            if not test.IsSuite and result.Output:  # pyright: ignore[reportAttributeAccessIssue]
                print(f"{test.FullName}: {result.Output}", end="")  # pyright: ignore[reportAttributeAccessIssue]
            if test.IsSuite or status == Interfaces.TestStatus.Passed:
                return
            failed = status == Interfaces.TestStatus.Failed
            trace = f"\n{result.StackTrace}" if failed else ""  # pyright: ignore[reportAttributeAccessIssue]
            print(f"{str(status).upper()} {test.FullName}: {result.Message}{trace}")  # pyright: ignore[reportAttributeAccessIssue]

    tests = folder / "MotionR1.Tests.dll"
    for other in set(folder.glob("*.dll")) - {tests}:
        Assembly.LoadFrom(str(other))
    runner = Api.NUnitTestAssemblyRunner(Api.DefaultTestAssemblyBuilder())
    runner.Load(Assembly.LoadFrom(str(tests)), Dictionary[String, Object]())
    wanted = "".join(f"<test>{name}</test>" for name in names)
    only = Internal.TestFilter.FromXml(f"<filter><or>{wanted}</or></filter>") if names else Internal.TestFilter.Empty
    result = runner.Run(Printer(), only)
    print(f"{result.PassCount} passed, {result.FailCount} failed, {result.SkipCount} skipped")
    return result.FailCount == 0 and result.PassCount > 0


def main() -> int:
    """Return 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["compile", "test", "check"])
    parser.add_argument("tools", type=lambda text: Path(text).resolve())
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("names", nargs="*", help="full names of tests, or files to check")
    arguments = parser.parse_args()
    start_runtime(arguments.tools)
    if arguments.action == "test":
        return 0 if run_tests(arguments.folder, arguments.names) else 1
    if arguments.action == "check":
        print("\n".join(check(arguments.tools, arguments.folder, [Path(name) for name in arguments.names])))
        return 0
    try:
        compile_client(arguments.tools, arguments.folder)
    except SyntaxError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
