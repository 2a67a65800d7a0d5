#!/usr/bin/env bash
# Writes the Python stubs to bridge/stubs/ and the C# codec to unity_client/Runtime/Core/Generated/.
# Both are committed and never edited. $1, if given, is another root folder to write below.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
to=$(realpath -m "${1:-$here/..}")
csharp=$to/unity_client/Runtime/Core/Generated
mkdir -p "$to/bridge/stubs" "$csharp"
descriptors=$(mktemp)
trap 'rm -f "$descriptors"' EXIT

# The virtual path makes the imports inside the stubs fit the package, so that nothing is edited afterwards.
python -m grpc_tools.protoc "-Ibridge/stubs=$here/motion_r1/v1" \
  --python_out="$to" --pyi_out="$to" --grpc_python_out="$to" bridge/stubs/motion.proto
python -m grpc_tools.protoc "-I$here" --include_imports --include_source_info \
  --descriptor_set_out="$descriptors" motion_r1/v1/motion.proto
python "$here/generate_csharp.py" "$descriptors" "$csharp/Motion.cs"
