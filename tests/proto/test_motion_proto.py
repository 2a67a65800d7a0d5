"""The wire only grows: what a client may rely on is recorded, and stays."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from bridge.stubs import motion_pb2
from bridge.wire import WIRE_VERSION

RECORDED = Path(__file__).parents[1] / "recorded/wire.txt"


def elements(file: FileDescriptorProto) -> list[str]:
    """One line for each thing that a client's code or bytes depend on."""
    lines = [f"package {file.package}"]
    for message in file.message_type:
        lines.append(f"message {message.name}")
        for field in message.field:
            kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
            rule = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
            rule += "optional " if field.proto3_optional else ""
            group = ""
            if field.HasField("oneof_index") and not field.proto3_optional:
                group = f" of {message.oneof_decl[field.oneof_index].name}"
            lines.append(f"{message.name}.{field.name} = {field.number}: {rule}{kind}{group}")
    for enum in file.enum_type:
        lines += [f"enum {enum.name}", *(f"{enum.name}.{value.name} = {value.number}" for value in enum.value)]
    for service in file.service:
        for method in service.method:
            streams = "stream " if method.server_streaming else ""
            lines.append(f"rpc {service.name}.{method.name}({method.input_type}) -> {streams}{method.output_type}")
    return lines


def current() -> FileDescriptorProto:
    file = FileDescriptorProto()
    motion_pb2.DESCRIPTOR.CopyToProto(file)
    return file


def broken(file: FileDescriptorProto) -> list[str]:
    """What is recorded and no longer so."""
    now = set(elements(file))
    return [line for line in RECORDED.read_text().splitlines() if line not in now]


def test_nothing_that_a_client_relies_on_has_changed():
    assert broken(current()) == [], "this breaks clients; add fields instead, or begin a v2"


def test_what_is_new_is_recorded():
    recorded = set(RECORDED.read_text().splitlines())
    new = [line for line in elements(current()) if line not in recorded]
    assert new == [], f"the wire has grown: append these lines to {RECORDED.name}, and count WIRE_VERSION up"


def test_the_wire_version_begins_with_the_number_of_the_package():
    assert f"motion_r1.v{WIRE_VERSION.split('.')[0]}" == current().package


@pytest.mark.parametrize("change", ["rename", "renumber", "retype", "remove", "enum", "rpc", "repeat"])
def test_every_kind_of_break_is_seen(change: str):
    file = current()
    chunk = next(message for message in file.message_type if message.name == "FrameChunk")
    match change:
        case "rename":
            chunk.field[0].name = "frame"
        case "renumber":
            chunk.field[0].number = 19
        case "retype":
            chunk.field[1].type = FieldDescriptorProto.TYPE_SINT64
        case "remove":
            del chunk.field[2]
        case "enum":
            file.enum_type[0].value[1].number = 9
        case "rpc":
            file.service[0].method[0].server_streaming = True
        case "repeat":
            chunk.field[0].label = FieldDescriptorProto.LABEL_REPEATED
    assert len(broken(file)) == 1
