"""Licences of data sets that several readers know, and which licences allow weights trained on a clip to be shipped."""

import re

UNKNOWN = "unknown"
AMASS_LICENCE = "AMASS: non-commercial research, no redistribution"
AMASS_DATASETS = (
    "ACCAD", "BMLhandball", "BMLmovi", "BioMotionLab_NTroje", "CMU", "DFaust_67", "EKUT", "Eyes_Japan_Dataset",
    "HumanEva", "KIT", "MPI_HDM05", "MPI_Limits", "MPI_mosh", "SFU", "SSM_synced", "TCD_handMocap", "TotalCapture",
    "Transitions_mocap",
)  # fmt: skip
"""Those that HumanML3D is made of, as its index.csv calls them."""
HUMANACT12_LICENCE = "HumanAct12: research only"

_PERMISSIVE = re.compile(
    r"\bCC[ -]?0\b|\bCC[ -]BY\b|\bCreative Commons (?:Zero|Attribution)\b|\bMIT\b|\bApache\b|\b[Pp]ublic [Dd]omain\b"
)
# CMU's terms have no name of their own: free for all uses, also commercial.
_CMU = re.compile(r"\bmocap\.cs\.cmu\.edu\b|\bCMU mocap\b", re.IGNORECASE)
_RESTRICTED = re.compile(
    r"\bNC\b|\bND\b|non[ -]?commercial|no[ -]?deriv|\bAMASS\b|\bunknown\b|\ball rights reserved\b|\bproprietary\b"
    r"|\bno(?:t|t for)? (?:commercial|redistribut)|\b(?:research|academic|educational|personal) (?:use|purposes?)\b"
    r"|\bonly\b|\bnot (?:in |under )",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\([^()]*\)")


def is_permissive(licence: str) -> bool:
    """Whether a recorded licence is CC0, CC BY, CC BY-SA, MIT, Apache, CMU's terms or public domain, without NC or ND.

    What stands between semicolons, motion and captions for example, must be so each: a licence is as free as its
    narrowest part. What is in parentheses, an author for example, can restrict but not permit. A part that names no
    licence known here is not permissive.
    """
    parts = [part.strip() for part in licence.split(";")]
    return all(
        bool(_PERMISSIVE.search(_ASIDE.sub(" ", part)) or _CMU.search(part)) and not _RESTRICTED.search(part)
        for part in parts
    )
