using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MotionR1.Analyzer
{
    /// <summary>What code that runs in a game may not use: IL2CPP strips what only reflection reaches and cannot make code
    /// while it runs, Web builds have one thread, and Unity has no other API than .NET Standard 2.1. Looks at what names
    /// mean, not at how they are spelled.</summary>
    [DiagnosticAnalyzer(LanguageNames.CSharp)]
    public sealed class RuntimeRules : DiagnosticAnalyzer
    {
        static readonly DiagnosticDescriptor Reflection = Rule("MR001", "reflection, which IL2CPP does not see");
        static readonly DiagnosticDescriptor Code = Rule("MR002", "code made at run time, which IL2CPP cannot do");
        static readonly DiagnosticDescriptor Outside = Rule("MR003", "outside of .NET Standard 2.1 and Unity");
        static readonly DiagnosticDescriptor Threads = Rule("MR004", "threads, which Web builds do not have");

        static readonly (string start, DiagnosticDescriptor rule)[] Namespaces =
        {
            ("System.Reflection.Emit", Code), ("System.Reflection", Reflection), ("System.Linq.Expressions", Code),
            ("System.Dynamic", Code), ("System.CodeDom", Code),
        };

        // Types as a whole, or one of their members.
        static readonly Dictionary<string, DiagnosticDescriptor> Names = new Dictionary<string, DiagnosticDescriptor>
        {
            ["System.Activator"] = Reflection,
            ["System.Delegate.DynamicInvoke"] = Reflection,
            ["System.Delegate.CreateDelegate"] = Reflection,
            ["System.Runtime.Serialization.FormatterServices"] = Reflection,
            ["System.Runtime.InteropServices.DllImportAttribute"] = Outside,
            ["System.Runtime.InteropServices.Marshal.GetDelegateForFunctionPointer"] = Code,
            ["System.Threading.Thread"] = Threads,
            ["System.Threading.ThreadPool"] = Threads,
            ["System.Threading.Timer"] = Threads,
            ["System.Threading.Tasks.Parallel"] = Threads,
            ["System.Threading.Tasks.Task.Run"] = Threads,
            ["System.Threading.Tasks.Task.ConfigureAwait"] = Threads,
            ["System.Threading.Tasks.Task.Wait"] = Threads,
            ["System.Threading.Tasks.Task.Result"] = Threads,
        };

        static readonly HashSet<string> HarmlessOfType = new HashSet<string>
        {
            "Name", "FullName", "ToString", "Equals", "GetHashCode", "op_Equality", "op_Inequality",
        };

        readonly HashSet<string> _assemblies;

        /// <summary>Takes names of all assemblies that code may use.</summary>
        public RuntimeRules(IEnumerable<string> assemblies) => _assemblies = new HashSet<string>(assemblies);

        public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics =>
            ImmutableArray.Create(Reflection, Code, Outside, Threads);

        public override void Initialize(AnalysisContext context)
        {
            context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.Analyze |
                GeneratedCodeAnalysisFlags.ReportDiagnostics);
            context.RegisterSyntaxNodeAction(Look, SyntaxKind.IdentifierName, SyntaxKind.GenericName,
                SyntaxKind.ImplicitObjectCreationExpression);
        }

        /// <summary>Finds everything in a compilation, as the compiler would print it.</summary>
        public static string[] Find(Compilation compilation, string[] assemblies)
        {
            var analyzers = ImmutableArray.Create<DiagnosticAnalyzer>(new RuntimeRules(assemblies));
            var found = compilation.WithAnalyzers(analyzers).GetAnalyzerDiagnosticsAsync().GetAwaiter().GetResult();
            return found.Select(diagnostic => diagnostic.ToString()).Distinct().OrderBy(line => line).ToArray();
        }

        void Look(SyntaxNodeAnalysisContext context)
        {
            var symbol = context.SemanticModel.GetSymbolInfo(context.Node).Symbol;
            if (symbol is IAliasSymbol alias) symbol = alias.Target;
            if (symbol == null || BrokenBy(symbol) is not { } rule) return;
            context.ReportDiagnostic(Diagnostic.Create(rule, context.Node.GetLocation(), symbol.ToDisplayString()));
        }

        DiagnosticDescriptor BrokenBy(ISymbol symbol)
        {
            if (symbol.Name == "Name" && symbol.ContainingType?.Name == "MemberInfo") return null;  // a Type's own
            if (symbol is IDynamicTypeSymbol || TypeOf(symbol) is IDynamicTypeSymbol) return Code;
            var space = symbol as INamespaceSymbol ?? symbol.ContainingNamespace;
            string name = space?.ToDisplayString() ?? "";
            foreach (var (start, rule) in Namespaces)
                if (name == start || name.StartsWith(start + ".")) return rule;
            var type = symbol as INamedTypeSymbol ?? symbol.ContainingType;
            string full = type == null ? "" : $"{name}.{type.Name}";
            if (Names.TryGetValue(full, out var ofType)) return ofType;
            if (Names.TryGetValue($"{full}.{symbol.Name}", out var ofMember)) return ofMember;
            if (full == "System.Type" && !ReferenceEquals(symbol, type) && !HarmlessOfType.Contains(symbol.Name))
                return Reflection;
            var assembly = symbol.ContainingAssembly;
            return assembly == null || _assemblies.Contains(assembly.Name) ? null : Outside;
        }

        static ITypeSymbol TypeOf(ISymbol symbol) => symbol switch
        {
            IMethodSymbol method => method.ReturnType,
            IPropertySymbol property => property.Type,
            IFieldSymbol field => field.Type,
            ILocalSymbol local => local.Type,
            IParameterSymbol parameter => parameter.Type,
            _ => null,
        };

        static DiagnosticDescriptor Rule(string id, string what) =>
            new DiagnosticDescriptor(id, what, "{0}: " + what, "Runtime", DiagnosticSeverity.Error, true);
    }
}
