import pytest

from python_core.clips.licences import is_permissive


@pytest.mark.parametrize(
    "licence",
    [
        "CC0-1.0",
        "CC0 1.0 (Quaternius, Animated Knight); captions: this project, CC0",
        "CC BY 4.0 (100STYLE, Mason et al.); captions: this project, CC0",
        "CC-BY-4.0",
        "CC BY-SA 3.0 (HDM05, Universitaet Bonn / MPI); captions: this project, CC0",
        "Creative Commons Attribution 4.0 International",
        "MIT",
        "Apache-2.0",
        "Apache License 2.0",
        "public domain",
        "CMU mocap: free for all uses (mocap.cs.cmu.edu); captions: HumanML3D, MIT",
        "CC0 (no attribution required)",
        "CC BY 4.0; CMU mocap: free for all uses (mocap.cs.cmu.edu); captions: HumanML3D, MIT",
    ],
)
def test_what_may_ship_is_permissive(licence: str):
    assert is_permissive(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "unknown",
        "",
        "CC BY-NC 4.0 (Bandai Namco Research Inc.); captions: this project, CC0",
        "CC-BY-NC-SA-4.0",
        "CC BY-ND 4.0",
        "Creative Commons Attribution-NonCommercial 4.0",
        "Creative Commons Attribution-NoDerivatives 4.0",
        "AMASS: non-commercial research, no redistribution",
        "AMASS; captions: HumanML3D, MIT",
        "KIT Motion-Language dataset: research only",
        "HumanAct12: research only",
        "BABEL labels: non-commercial research",
        "CC0; motion: all rights reserved",
        "not in the public domain",
        "MIT, for academic use",
        "free for personal use",
        "motion: CC BY 4.0; captions:",
        "some terms (like CC0)",
        "mit freundlicher Genehmigung",
        "no commercial use; MIT",
        "not for commercial use, CC BY",
    ],
)
def test_what_may_not_ship_or_is_not_known_is_not_permissive(licence: str):
    assert not is_permissive(licence)


def test_a_licence_is_as_free_as_its_narrowest_part():
    assert is_permissive("CC0; MIT")
    assert not is_permissive("CC0; MIT; CC BY-NC 4.0")
