"""What proto/generate.sh writes."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

REPOSITORY = Path(__file__).parents[2]
GENERATED = (
    "bridge/stubs/motion_pb2.py",
    "bridge/stubs/motion_pb2.pyi",
    "bridge/stubs/motion_pb2_grpc.py",
    "unity_client/Runtime/Core/Generated/Motion.cs",
)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The C# generator, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("generate_csharp", REPOSITORY / "proto/generate_csharp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_code_is_what_the_proto_gives(run_program: Callable[..., str], tmp_path: Path):
    run_program("bash", REPOSITORY / "proto/generate.sh", tmp_path)
    for path in GENERATED:
        assert (tmp_path / path).read_bytes() == (REPOSITORY / path).read_bytes(), f"{path}: run proto/generate.sh"
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(GENERATED)


def test_the_stubs_import_each_other_as_the_package_has_them():
    assert "from bridge.stubs import motion_pb2" in (REPOSITORY / "bridge/stubs/motion_pb2_grpc.py").read_text()


def one_field(**field: object) -> FileDescriptorProto:
    """Return a file with one message of one field."""
    file = FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
    file.options.csharp_namespace = "A"
    settings = {"name": "text", "number": 1, "label": FieldDescriptorProto.LABEL_OPTIONAL, **field}
    file.message_type.add(name="Thing").field.add(**settings)
    return file


def test_a_comment_becomes_xml(generator: ModuleType):
    file = one_field(type=FieldDescriptorProto.TYPE_STRING)
    file.source_code_info.location.add(path=[4, 0, 2, 0], leading_comments=" Fewer than `n` & <b>.\n")
    assert "/// <summary>Fewer than <c>n</c> &amp; &lt;b&gt;.</summary>" in generator.source_file(file)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": FieldDescriptorProto.TYPE_SINT32}, "TYPE_SINT32 is not known"),
        ({"type": FieldDescriptorProto.TYPE_STRING, "name": "thing"}, "name of its class"),
        ({"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": ".a.Thing"}, "hold themselves"),
    ],
)
def test_what_the_generator_does_not_know_is_named(generator: ModuleType, field: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        generator.source_file(one_field(**field))


def test_nested_types_and_imports_are_refused(generator: ModuleType):
    nested = one_field(type=FieldDescriptorProto.TYPE_STRING)
    nested.message_type[0].nested_type.add(name="Inner")
    with pytest.raises(ValueError, match="nested types"):
        generator.source_file(nested)
    importing = one_field(type=FieldDescriptorProto.TYPE_STRING)
    importing.dependency.append("b.proto")
    with pytest.raises(ValueError, match="without imports"):
        generator.source_file(importing)
