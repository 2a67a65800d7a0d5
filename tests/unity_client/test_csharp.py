"""The C# code without a server: it compiles without a warning, and its NUnit tests pass."""

import re
from collections.abc import Callable


def test_the_client_compiles_and_its_nunit_tests_pass(run_nunit: Callable[..., str]):
    printed = run_nunit(MOTION_R1_WEB_ADDRESS="", MOTION_R1_GRPC_ADDRESS="", MOTION_R1_CODEC_FOLDER="")
    passed, failed, skipped = map(int, re.findall(r"(\d+) (?:passed|failed|skipped)", printed.splitlines()[-1]))
    assert failed == 0
    assert passed >= 100
    # Those that talk to a bridge or to Python run in other tests.
    reasons = printed.count("_ADDRESS is not set") + printed.count("_FOLDER is not set")
    assert skipped == printed.count("SKIPPED") == reasons
