"""Write C# messages and their codec from a FileDescriptorSet: python generate_csharp.py DESCRIPTORS TARGET.

The messages read and write themselves with `WireReader` and `WireWriter` of `MotionR1.Core`: no reflection, which
IL2CPP would strip, and no third-party DLL. Known are proto3 messages at top level in one file, without maps, without
recursion, and with the field types in SCALARS; anything else is a ValueError that names it.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

WIDTH = 120
INDENT = "    "
WIRE_VARINT, WIRE_FIXED64, WIRE_LENGTH, WIRE_FIXED32 = 0, 1, 2, 5

# Field numbers of descriptor.proto, of which the paths of comments are made.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_ONEOF, ENUM_VALUE, SERVICE_METHOD = 2, 8, 2, 2

Lines = Iterator[str]
Comments = dict[tuple[int, ...], str]


@dataclass(frozen=True)
class Scalar:
    """How one protobuf type looks in C#."""

    csharp: str
    """The C# type; empty where the field names it."""

    method: str
    """Ending of Read... and Write... in `WireReader` and `WireWriter`."""

    wire_type: int
    """Of a single value."""

    is_set: str = "{} != 0"
    """C# condition under which a field without presence is written."""

    default: str = ""
    """C# initial value, where C#'s own is not protobuf's."""


SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: Scalar(
        "double", "Double", WIRE_FIXED64, "BitConverter.DoubleToInt64Bits({}) != 0"
    ),
    FieldDescriptorProto.TYPE_FLOAT: Scalar("float", "Float", WIRE_FIXED32, "BitConverter.SingleToInt32Bits({}) != 0"),
    FieldDescriptorProto.TYPE_INT64: Scalar("long", "Int64", WIRE_VARINT),
    FieldDescriptorProto.TYPE_UINT64: Scalar("ulong", "UInt64", WIRE_VARINT),
    FieldDescriptorProto.TYPE_INT32: Scalar("int", "Int32", WIRE_VARINT),
    FieldDescriptorProto.TYPE_UINT32: Scalar("uint", "UInt32", WIRE_VARINT),
    FieldDescriptorProto.TYPE_BOOL: Scalar("bool", "Bool", WIRE_VARINT, "{}"),
    FieldDescriptorProto.TYPE_ENUM: Scalar("", "Int32", WIRE_VARINT),
    FieldDescriptorProto.TYPE_STRING: Scalar("string", "String", WIRE_LENGTH, "{}.Length != 0", '""'),
    FieldDescriptorProto.TYPE_BYTES: Scalar("byte[]", "Bytes", WIRE_LENGTH, "{}.Length != 0", "Array.Empty<byte>()"),
    FieldDescriptorProto.TYPE_MESSAGE: Scalar("", "Message", WIRE_LENGTH, "{} != null"),
}


def camel(name: str) -> str:
    """Turn snake_case or UPPER_CASE into PascalCase."""
    return "".join(part.capitalize() for part in name.split("_"))


def summary(comment: str, indent: str) -> Lines:
    """Write an XML comment, wrapped. A trailing comment of the .proto that is missing gives nothing."""
    if not comment:
        return
    escaped = comment.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = re.sub("`([^`]*)`", r"<c>\1</c>", escaped)
    text = f"<summary>{marked}</summary>"
    for line in wrap(text, WIDTH - len(indent) - len("/// "), break_long_words=False, break_on_hyphens=False):
        yield f"{indent}/// {line}"


class Field:
    """One field of a message, in C# terms."""

    def __init__(self, field: FieldDescriptorProto, message: DescriptorProto, package: str, comment: str) -> None:
        """Look up what the field needs.

        Raises:
            ValueError: The generator does not know this kind of field.
        """
        if field.type not in SCALARS:
            kind = FieldDescriptorProto.Type.Name(field.type)
            raise ValueError(f"{message.name}.{field.name}: {kind} is not known to this generator; add it to SCALARS")
        self.comment = comment
        self.number = field.number
        self.scalar = SCALARS[field.type]
        self.property = camel(field.name)
        if self.property == message.name:
            raise ValueError(f"{message.name}.{field.name}: a C# property cannot bear the name of its class")
        self.is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        self.is_enum = field.type == FieldDescriptorProto.TYPE_ENUM
        self.type = self.scalar.csharp or field.type_name.removeprefix(f".{package}.")
        self.repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        self.packable = self.repeated and self.scalar.wire_type != WIRE_LENGTH
        self.optional = field.proto3_optional
        self.oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        if self.optional:
            self.oneof = ""
        self.backing = f"_{self.property[0].lower()}{self.property[1:]}"
        self.nullable = self.optional or bool(self.oneof)
        is_value = self.is_enum or (not self.is_message and self.scalar.wire_type != WIRE_LENGTH)
        self.value_type_nullable = self.nullable and is_value

    def tag(self, wire_type: int | None = None) -> int:
        """Return the number that stands before a value on the wire."""
        return self.number << 3 | (self.scalar.wire_type if wire_type is None else wire_type)

    def declaration(self, siblings: list["Field"]) -> Lines:
        """Write the property. A member of a oneof clears its siblings."""
        presence = " Null: not set." if self.nullable or (self.is_message and not self.repeated) else ""
        yield from summary(self.comment + presence, INDENT * 2)
        declared = self.type + ("?" if self.value_type_nullable else "")
        head = f"{INDENT * 2}public {declared} {self.property}"
        if self.repeated:
            yield f"{INDENT * 2}public List<{self.type}> {self.property} {{ get; }} = new List<{self.type}>();"
        elif self.oneof:
            others = "".join(f"{other.backing} = null; " for other in siblings)
            yield head
            yield f"{INDENT * 2}{{"
            yield f"{INDENT * 3}get => {self.backing};"
            yield f"{INDENT * 3}set {{ {others}{self.backing} = value; }}"
            yield f"{INDENT * 2}}}"
            yield f"{INDENT * 2}{declared} {self.backing};"
        else:
            default = f" = {self.scalar.default};" if self.scalar.default and not self.nullable else ""
            yield f"{head} {{ get; set; }}{default}"
        yield ""

    def reading(self) -> Lines:
        """Write the cases that read this field."""
        value = f"({self.type})reader.ReadInt32()" if self.is_enum else f"reader.Read{self.scalar.method}()"
        case = f"{INDENT * 5}case {self.tag()}:"
        if self.repeated and self.is_message:
            yield f"{case} {self.property}.Add({self.type}.Parse(reader.ReadMessage())); break;"
        elif self.repeated:
            yield f"{case} {self.property}.Add({value}); break;"
            if self.packable:
                yield f"{INDENT * 5}case {self.tag(WIRE_LENGTH)}:"
                yield f"{INDENT * 6}for (var run = reader.ReadMessage(); !run.AtEnd;)"
                yield f"{INDENT * 7}{self.property}.Add({value.replace('reader', 'run')});"
                yield f"{INDENT * 6}break;"
        elif self.is_message:
            yield f"{case} ({self.property} ??= new {self.type}()).MergeFrom(reader.ReadMessage()); break;"
        else:
            yield f"{case} {self.property} = {value}; break;"

    def writing(self) -> Lines:
        """Write the statements that write this field: nothing where it has its default."""
        single = self.property + (".Value" if self.value_type_nullable else "")
        cast = "(int)" if self.is_enum else ""
        if self.repeated:
            method = f"Write{self.scalar.method}"
            if self.packable:
                yield f"{INDENT * 3}if ({self.property}.Count != 0)"
                yield f"{INDENT * 3}{{"
                yield f"{INDENT * 4}int start = writer.BeginRun({self.tag(WIRE_LENGTH)});"
                yield f"{INDENT * 4}foreach (var item in {self.property}) writer.{method}({cast}item);"
                yield f"{INDENT * 4}writer.EndRun(start);"
                yield f"{INDENT * 3}}}"
            else:
                yield f"{INDENT * 3}foreach (var item in {self.property})"
                yield f"{INDENT * 3}{{"
                yield f"{INDENT * 4}writer.WriteTag({self.tag()});"
                yield f"{INDENT * 4}writer.{method}(item);"
                yield f"{INDENT * 3}}}"
            return
        condition = f"{self.property} != null" if self.nullable else self.scalar.is_set.format(self.property)
        yield f"{INDENT * 3}if ({condition})"
        yield f"{INDENT * 3}{{"
        yield f"{INDENT * 4}writer.WriteTag({self.tag()});"
        yield f"{INDENT * 4}writer.Write{self.scalar.method}({cast}{single});"
        yield f"{INDENT * 3}}}"


def message_class(message: DescriptorProto, package: str, comments: Comments, path: tuple[int, ...]) -> Lines:
    """Write one message.

    Raises:
        ValueError: The message has nested types.
    """
    if message.nested_type or message.enum_type:
        raise ValueError(f"{message.name}: nested types are not known to this generator; move them to the top level")
    fields = [
        Field(field, message, package, comments.get((*path, MESSAGE_FIELD, i), ""))
        for i, field in enumerate(message.field)
    ]
    oneofs: dict[str, list[Field]] = {}
    for field in fields:
        if field.oneof:
            oneofs.setdefault(field.oneof, []).append(field)

    yield from summary(comments.get(path, ""), INDENT)
    yield f"{INDENT}public sealed class {message.name} : IWireMessage"
    yield f"{INDENT}{{"
    for i, declaration in enumerate(message.oneof_decl):
        if declaration.name in oneofs:
            comment = comments.get((*path, MESSAGE_ONEOF, i), "")
            yield from oneof_case(camel(declaration.name), oneofs[declaration.name], comment)
    for field in fields:
        yield from field.declaration([other for other in oneofs.get(field.oneof, []) if other is not field])
    yield f"{INDENT * 2}WireWriter _unknown;"
    yield ""
    yield f'{INDENT * 2}/// <summary>Reads a message. Malformed: <see cref="WireFormatException"/>.</summary>'
    yield f"{INDENT * 2}public static {message.name} Parse(ReadOnlySpan<byte> bytes) => Parse(new WireReader(bytes));"
    yield ""
    yield f"{INDENT * 2}internal static {message.name} Parse(WireReader reader)"
    yield f"{INDENT * 2}{{"
    yield f"{INDENT * 3}var message = new {message.name}();"
    yield f"{INDENT * 3}message.MergeFrom(reader);"
    yield f"{INDENT * 3}return message;"
    yield f"{INDENT * 2}}}"
    yield ""
    yield f"{INDENT * 2}/// <inheritdoc/>"
    yield f"{INDENT * 2}public void MergeFrom(WireReader reader)"
    yield f"{INDENT * 2}{{"
    yield f"{INDENT * 3}while (!reader.AtEnd)"
    yield f"{INDENT * 3}{{"
    yield f"{INDENT * 4}uint tag = reader.ReadTag();"
    yield f"{INDENT * 4}switch (tag)"
    yield f"{INDENT * 4}{{"
    for field in fields:
        yield from field.reading()
    yield f"{INDENT * 5}default: (_unknown ??= new WireWriter()).WriteRaw(reader.ReadUnknown(tag)); break;"
    yield f"{INDENT * 4}}}"
    yield f"{INDENT * 3}}}"
    yield f"{INDENT * 2}}}"
    yield ""
    yield f"{INDENT * 2}/// <inheritdoc/>"
    yield f"{INDENT * 2}public void WriteTo(WireWriter writer)"
    yield f"{INDENT * 2}{{"
    for field in sorted(fields, key=lambda field: field.number):
        yield from field.writing()
    yield f"{INDENT * 3}if (_unknown != null) writer.WriteRaw(_unknown.Written);"
    yield f"{INDENT * 2}}}"
    yield f"{INDENT}}}"


def oneof_case(name: str, members: list[Field], comment: str) -> Lines:
    """Write the enum that says which member of a oneof is set, and the property of that type."""
    yield f'{INDENT * 2}/// <summary>Members of <see cref="{name}Case"/>.</summary>'
    yield f"{INDENT * 2}public enum {name}OneofCase"
    yield f"{INDENT * 2}{{"
    yield f"{INDENT * 3}/// <summary>Nothing is set.</summary>"
    yield f"{INDENT * 3}None = 0,"
    for member in members:
        yield from summary(member.comment, INDENT * 3)
        yield f"{INDENT * 3}{member.property} = {member.number},"
    yield f"{INDENT * 2}}}"
    yield ""
    yield from summary(comment, INDENT * 2)
    yield f"{INDENT * 2}public {name}OneofCase {name}Case =>"
    for member in members:
        yield f"{INDENT * 3}{member.backing} != null ? {name}OneofCase.{member.property} :"
    yield f"{INDENT * 3}{name}OneofCase.None;"
    yield ""


def enum(declared: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Lines:
    """Write one enum; the values lose its name, which C# repeats anyway."""
    prefix = re.sub("(?<!^)(?=[A-Z])", "_", declared.name).upper() + "_"
    yield from summary(comments.get(path, ""), INDENT)
    yield f"{INDENT}public enum {declared.name}"
    yield f"{INDENT}{{"
    for i, value in enumerate(declared.value):
        yield from summary(comments.get((*path, ENUM_VALUE, i), ""), INDENT * 2)
        yield f"{INDENT * 2}{camel(value.name.removeprefix(prefix))} = {value.number},"
    yield f"{INDENT}}}"


def service(declared: ServiceDescriptorProto, package: str, comments: Comments, path: tuple[int, ...]) -> Lines:
    """Write the paths of a service's methods."""
    yield from summary(comments.get(path, ""), INDENT)
    yield f"{INDENT}public static class {declared.name}"
    yield f"{INDENT}{{"
    for i, method in enumerate(declared.method):
        yield from summary(comments.get((*path, SERVICE_METHOD, i), ""), INDENT * 2)
        yield f'{INDENT * 2}public const string {method.name} = "/{package}.{declared.name}/{method.name}";'
    yield f"{INDENT}}}"


def refuse_recursion(file: FileDescriptorProto) -> None:
    """Raise ValueError where a message can hold itself: malformed bytes could then nest without end."""
    holds = {
        f".{file.package}.{message.name}": {
            field.type_name for field in message.field if field.type == FieldDescriptorProto.TYPE_MESSAGE
        }
        for message in file.message_type
    }
    while holds:
        leaves = {name for name, held in holds.items() if not held}
        if not leaves:
            raise ValueError(
                f"{file.name}: messages that hold themselves are not known to this generator: {list(holds)}"
            )
        holds = {name: held - leaves for name, held in holds.items() if name not in leaves}


def source_file(file: FileDescriptorProto) -> str:
    """Return the C# source of one .proto file.

    Raises:
        ValueError: The file uses what this generator does not know.
    """
    if file.syntax != "proto3" or file.dependency:
        raise ValueError(f"{file.name}: expected proto3 without imports, got {file.syntax or 'proto2'}")
    refuse_recursion(file)
    comments = {
        tuple(location.path): " ".join(location.leading_comments.split()) for location in file.source_code_info.location
    }
    blocks: list[Lines] = []
    for i, declared in enumerate(file.service):
        blocks.append(service(declared, file.package, comments, (FILE_SERVICE, i)))
    for i, declared in enumerate(file.enum_type):
        blocks.append(enum(declared, comments, (FILE_ENUM, i)))
    for i, declared in enumerate(file.message_type):
        blocks.append(message_class(declared, file.package, comments, (FILE_MESSAGE, i)))
    lines = [
        f"// <auto-generated>Written by proto/generate.sh from {file.name}. Do not edit.</auto-generated>",
        "using System;",
        "using System.Collections.Generic;",
        "",
        f"namespace {file.options.csharp_namespace}",
        "{",
    ]
    for i, block in enumerate(blocks):
        lines += ([""] if i else []) + list(block)
    return "\n".join([*lines, "}", ""])


def main(descriptors: Path, target: Path) -> None:
    """Write `target` from the last file of `descriptors`, which protoc puts after what it imports."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    target.write_text(source_file(files[-1]), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
