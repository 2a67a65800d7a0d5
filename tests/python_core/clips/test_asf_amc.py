import time
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from python_core.clips.asf_amc import AcclaimSkeleton, bone_turns_and_ends, read_amc, read_asf
from python_core.clips.clip import ClipError

ASF = """\
# An arm on a post, in half inches.
:version 1.10
:name ARM
:units
  mass 1.0
  length 0.5
  angle deg
:documentation
   end of the arm, (begin of the world)
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name post
     direction 0 1 0
     length 4
     axis 0 0 90 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-inf inf)
  end
  begin
     length 2
     axis 0 0 0 XYZ
     name bracket
     direction 3 0 4
     id 2
  end
  begin
     id 3
     name hand
     direction 0.6 0 0.8
     length 1
     axis 30 -40 50 XYZ
    dof rx rz
  end
:hierarchy
  begin
    bracket hand
    root post
    post bracket
  end
"""
AMC = """\
#!OML:ASF C:\\arm.asf
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
post 0 0 0
hand 0 0
2
root 1 2 3 0 0 0
post 90 0 0
hand 0 0
3
hand 10 -20
root 0 0 0 10 -20 30
post 5 -6e1 7
"""
IN = 0.0254 / 0.5


def written(folder: Path, asf: str = ASF, amc: str = AMC) -> tuple[Path, Path]:
    (folder / "a.asf").write_text(asf)
    (folder / "a.amc").write_text(amc)
    return folder / "a.asf", folder / "a.amc"


def read(folder: Path, asf: str = ASF, amc: str = AMC) -> tuple[AcclaimSkeleton, np.ndarray]:
    asf_path, amc_path = written(folder, asf, amc)
    skeleton = read_asf(asf_path)
    return skeleton, read_amc(amc_path, skeleton)


def ends_of(skeleton: AcclaimSkeleton, channels: np.ndarray) -> dict[str, np.ndarray]:
    ends = bone_turns_and_ends(skeleton, channels)[1]
    return {bone.name: end for bone, end in zip(skeleton.bones, ends, strict=True)}


def random_skeleton(rng: np.random.Generator, num_bones: int, unit: str = "deg") -> str:
    """A tree of bones with any axes, dof and orders."""
    angle = 180 if unit == "deg" else np.pi
    bones, hierarchy = [], []
    for bone in range(num_bones):
        axis = " ".join(f"{value:.6f}" for value in rng.uniform(-angle, angle, 3))
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        dof = list(rng.permutation(["rx", "ry", "rz"])[: rng.integers(0, 4)])
        bones.append(
            f"begin\nid {bone}\nname b{bone}\ndirection {' '.join(f'{value:.9f}' for value in direction)}\n"
            f"length {rng.uniform(0, 5):.6f}\naxis {axis} {''.join(rng.permutation(list('XYZ')))}\n"
            + (f"dof {' '.join(dof)}\n" if dof else "")
            + "end\n"
        )
        hierarchy.append(f"{'root' if bone == 0 else f'b{rng.integers(0, bone)}'} b{bone}\n")
    order = " ".join(rng.permutation(["TX", "TY", "TZ", "RX", "RY", "RZ"]))
    orientation = " ".join(f"{value:.6f}" for value in rng.uniform(-angle, angle, 3))
    return (
        f":units\nmass 1\nangle {unit}\nlength 0.45\n:root\norder {order}\n"
        f"axis {''.join(rng.permutation(list('XYZ')))}\n"
        f"position 1 -2 3\norientation {orientation}\n:bonedata\n{''.join(bones)}"
        f":hierarchy\nbegin\n{''.join(rng.permutation(hierarchy))}end\n"
    )


def test_the_pose_with_all_angles_0_is_the_directions_end_to_end_in_metres(tmp_path: Path):
    skeleton, channels = read(tmp_path)
    ends = ends_of(skeleton, channels)
    np.testing.assert_allclose(ends["root"][0], np.array([1, 2, 3]) * IN)
    np.testing.assert_allclose(ends["post"][0], np.array([1, 6, 3]) * IN, atol=1e-12)
    np.testing.assert_allclose(ends["bracket"][0], np.array([1 + 1.2, 6, 3 + 1.6]) * IN, atol=1e-12)
    np.testing.assert_allclose(ends["hand"][0], np.array([1 + 1.8, 6, 3 + 2.4]) * IN, atol=1e-12)


def test_a_turn_about_an_axis_that_lies_along_the_post_turns_what_is_on_it(tmp_path: Path):
    skeleton, channels = read(tmp_path)
    ends = ends_of(skeleton, channels)
    # The post's own X axis is turned by 90 degrees about Z, to the world's Y: rx turns about the post. A quarter turn
    # about Y takes (x, z) to (z, -x), so that the bracket, 1.2 and 1.6 long, goes to 1.6 and -1.2.
    np.testing.assert_allclose(ends["post"][1], np.array([1, 6, 3]) * IN, atol=1e-12)
    np.testing.assert_allclose(ends["bracket"][1], np.array([1 + 1.6, 6, 3 - 1.2]) * IN, atol=1e-12)
    np.testing.assert_allclose(ends["hand"][1], np.array([1 + 2.4, 6, 3 - 1.8]) * IN, atol=1e-12)


def test_the_root_turns_about_x_then_y_then_z_where_its_order_says_so(tmp_path: Path):
    amc = ":FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 0 0 90 90 0\npost 0 0 0\nhand 0 0\n"
    # A quarter about X takes the post from +Y to +Z, a quarter about Y from +Z to +X.
    np.testing.assert_allclose(ends_of(*read(tmp_path, amc=amc))["post"][0], [4 * IN, 0, 0], atol=1e-12)
    # The other way round it stays at +Y for the first, and goes to +Z.
    asf, amc = ASF.replace("RX RY RZ", "RY RX RZ"), amc.replace("90 90 0", "90 90 0")
    np.testing.assert_allclose(ends_of(*read(tmp_path, asf, amc))["post"][0], [0, 0, 4 * IN], atol=1e-12)


def test_rows_may_come_in_any_order_and_go_to_their_bones(tmp_path: Path):
    skeleton, channels = read(tmp_path)
    assert [bone.name for bone in skeleton.bones] == ["root", "post", "bracket", "hand"]
    assert [bone.parent for bone in skeleton.bones] == [-1, 0, 1, 2]
    np.testing.assert_allclose(channels[2], np.radians([0, 0, 0, 10, -20, 30, 5, -60, 7, 10, -20]))


@pytest.mark.parametrize("seed", range(5))
def test_forward_kinematics_agrees_with_transforms_of_scipy_frame_by_frame(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    unit = ("deg", "rad")[seed % 2]
    asf_path, _ = written(tmp_path, random_skeleton(rng, num_bones=12, unit=unit))
    skeleton = read_asf(asf_path)
    values = rng.uniform(-1, 1, (3, skeleton.columns[-1].stop)) * (180 if unit == "deg" else np.pi)
    rows = []
    for frame, row in enumerate(values, start=1):
        rows.append(str(frame))
        for bone, columns in zip(skeleton.bones, skeleton.columns, strict=True):
            if bone.dof:
                rows.append(f"{bone.name} {' '.join(f'{value:.12f}' for value in row[columns])}")
    # Without a unit of its own the motion has that of the skeleton.
    (tmp_path / "a.amc").write_text("\n".join(rows))
    ends = ends_of(skeleton, read_amc(tmp_path / "a.amc", skeleton))

    # The file once more, in a few words and as 4 x 4 transforms that go from the world into each bone.
    words = [line.split() for line in asf_path.read_text().splitlines()]
    scale = 0.0254 / 0.45

    def turn(letters: str, angles: list[float]) -> np.ndarray:
        return Rotation.from_euler(letters.lower(), angles, degrees=unit == "deg").as_matrix()

    def preset(line: list[str]) -> np.ndarray:
        by_letter = dict(zip("XYZ", map(float, line[1:4]), strict=True))
        return turn(line[4], [by_letter[letter] for letter in line[4]])

    for frame, row in enumerate(values):
        root_order = next(line[1:] for line in words if line[:1] == ["order"])
        root_axis = next(line[1] for line in words if line[:1] == ["axis"])
        orientation = next(line for line in words if line[:1] == ["orientation"])
        moves = dict(zip(root_order, row[:6], strict=True))
        letters = "".join(name[1] for name in root_order if name[0] == "R")
        world = {"root": np.eye(4)}
        world["root"][:3, :3] = turn(letters, [moves[f"R{letter}"] for letter in letters]) @ preset(
            [*orientation, root_axis]
        )
        world["root"][:3, 3] = scale * np.array([1 + moves["TX"], -2 + moves["TY"], 3 + moves["TZ"]])
        parents = {line[1]: line[0] for line in words[words.index([":hierarchy"]) + 2 : -1]}
        columns = {bone.name: row[part] for bone, part in zip(skeleton.bones, skeleton.columns, strict=True)}

        def place(name: str, world: dict = world, parents: dict = parents, columns: dict = columns) -> np.ndarray:
            if name in world:
                return world[name]
            start = words.index(["name", name])
            block = {line[0]: line for line in words[start : start + 5]}
            own = np.eye(4)
            if "dof" in block:
                axis = preset(block["axis"])
                moved = turn("".join(word[1] for word in block["dof"][1:]), list(columns[name]))
                own[:3, :3] = axis @ moved @ np.linalg.inv(axis)
            along = np.eye(4)
            along[:3, 3] = np.array(block["direction"][1:], dtype=float) * float(block["length"][1]) * scale
            world[name] = place(parents[name]) @ own @ along
            return world[name]

        for name in parents:
            np.testing.assert_allclose(ends[name][frame], place(name)[:3, 3], atol=1e-6)


def test_radians_and_degrees_give_the_same_motion(tmp_path: Path):
    values = np.degrees([0.1, -0.2, 0.3])
    degrees = f":FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 0 0 0 0 0\npost {' '.join(map(str, values))}\nhand 0 0\n"
    radians = ":fully-specified\n:radians\n1\nroot 0 0 0 0 0 0\npost 0.1 -0.2 0.3\nhand 0 0\n"
    np.testing.assert_allclose(read(tmp_path, amc=degrees)[1], read(tmp_path, amc=radians)[1])


def test_carriage_returns_blank_lines_and_comments_of_other_encodings_change_nothing(tmp_path: Path):
    plain = read(tmp_path)[1]
    asf_path, amc_path = written(tmp_path)
    for path in (asf_path, amc_path):
        text = path.read_text().replace("\n", "  \r\n\r\n").encode() + b"# Gr\xf6\xdfe\r\n"
        path.write_bytes(text)
    np.testing.assert_array_equal(read_amc(amc_path, read_asf(asf_path)), plain)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":units", ":unit", r"a\.asf: no section :units"),
        ("length 0.5", "length 0", r"a\.asf:6: the length unit must be positive"),
        ("length 0.5", "length nan", r"a\.asf:6: expected 1 finite numbers after length"),
        ("angle deg", "angle grad", r"a\.asf:7: the angle unit must be deg or rad, got 'grad'"),
        ("  angle deg\n", "", r"section :units has no angle"),
        ("TX TY TZ RX RY RZ", "TX TY TZ RX RY", r"a\.asf:11: expected TX TY TZ RX RY RZ in some order"),
        ("axis 0 0 90 XYZ", "axis 0 0 90 XYY", r"a\.asf:21: expected the letters XYZ in some order"),
        ("axis 0 0 90 XYZ", "axis 0 0 XYZ", r"a\.asf:21: expected 3 finite numbers"),
        ("direction 3 0 4", "direction 0 0 0", r"a\.asf:31: bone bracket points nowhere"),
        ("     direction 3 0 4\n", "", r"a\.asf:27: this bone has no direction"),
        ("length 4", "length -4", r"a\.asf:20: bone post must be 0 to 1000 m long"),
        ("length 4", "length 1e308", r"a\.asf:20: bone post must be"),
        ("length 4", "length 4\nlength 4", r"a\.asf:21: length for the second time"),
        ("dof rx rz", "dof rx tx", r"a\.asf:40: bone hand: expected some of rx ry rz"),
        ("name hand", "name post", r"a\.asf:34: bone post for the second time"),
        ("name hand", "name root", r"a\.asf:34: bone root for the second time"),
        ("post bracket", "post brackets", r"a\.asf:46: bone 'brackets' is not in :bonedata"),
        ("post bracket", "hand bracket", r"does not lead from the root to bracket, hand"),
        ("post bracket", "post bracket hand", r"a\.asf:46: bone hand has a second parent, post"),
        ("  end\n  begin\n     id 3", "  begin\n     id 3", r"a\.asf:33: the bone that begins in line 27 has no end"),
        (ASF[ASF.index("  end\n:hier") :], ":hierarchy\n", r"a\.asf:34: this bone has no end; is the file whole"),
        (ASF[ASF.index(":bonedata") :], "", r"a\.asf: no section :bonedata; is this an Acclaim skeleton, and whole"),
        (ASF, "", r"a\.asf: no section :units"),
    ],
)
def test_a_skeleton_of_another_form_is_refused_with_file_and_line(tmp_path: Path, old: str, new: str, message: str):
    assert old in ASF
    with pytest.raises(ClipError, match=message):
        read(tmp_path, asf=ASF.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("post 90 0 0\n", "", r"a\.amc:11: the frame that ends here lacks 1 bones \(post\); is the file whole"),
        ("post 90 0 0", "post 90 0", r"a\.amc:10: expected 3 finite numbers for bone post, got '90 0'"),
        ("post 90 0 0", "post 90 0 0 0", r"a\.amc:10: expected 3 finite numbers"),
        ("post 90 0 0", "post 90 NaN 0", r"a\.amc:10: expected 3 finite numbers"),
        ("post 90 0 0", "post 9_0 0 0", r"a\.amc:10: expected 3 finite numbers"),
        ("post 90 0 0", "post 1e999 0 0", r"a\.amc:10: expected 3 finite numbers"),
        ("post 90 0 0", "post 90 0 0\npost 90 0 0", r"a\.amc:11: bone post twice in frame 2"),
        ("post 90 0 0", "leg 90 0 0", r"a\.amc:10: expected frame 3 or a bone that moves .*, got 'leg 90 0 0'"),
        ("post 90 0 0", ":RADIANS", r"a\.amc:10: expected :FULLY-SPECIFIED, :DEGREES or :RADIANS before"),
        ("\n2\n", "\n3\n", r"a\.amc:8: expected frame 2 or a bone that moves .*, got '3'"),
        ("\n3\n", "\n2\n", r"a\.amc:12: expected frame 3 .*, got '2'"),
        ("\n1\n", "\n", r"a\.amc:4: bone root before the number of the first frame"),
        ("root 0 0 0 10", "root 0 0 2e4 10", r"a\.amc:12: the root is farther than 1000 m"),
        ("post 5 -6e1 7\n", "", r"a\.amc:14: the frame that ends here lacks 1 bones \(post\)"),
        (":DEGREES", ":GRADS", r"a\.amc:3: expected :FULLY"),
        (AMC[AMC.index("1\n") :], "", r"a\.amc: no frame in it"),
    ],
)
def test_a_motion_of_another_form_is_refused_with_file_and_line(tmp_path: Path, old: str, new: str, message: str):
    assert old in AMC
    with pytest.raises(ClipError, match=message):
        read(tmp_path, amc=AMC.replace(old, new, 1))


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(ClipError, match=r"b\.asf: missing"):
        read_asf(tmp_path / "b.asf")
    with pytest.raises(ClipError, match=r"b\.amc: missing"):
        read_amc(tmp_path / "b.amc", read_asf(written(tmp_path)[0]))


def test_a_chain_of_a_thousand_bones_is_read_and_one_of_2_000_refused(tmp_path: Path):
    def chain(length: int) -> str:
        bones = "".join(
            f"begin\nname b{bone}\ndirection 0 1 0\nlength 1\naxis 0 0 0 XYZ\nend\n" for bone in range(length)
        )
        steps = "root b0\n" + "".join(f"b{bone} b{bone + 1}\n" for bone in range(length - 1))
        head = ASF[: ASF.index(":bonedata")]
        return f"{head}:bonedata\n{bones}:hierarchy\nbegin\n{steps}end\n"

    skeleton, channels = read(tmp_path, chain(999), "1\nroot 0 0 0 0 0 0\n")
    np.testing.assert_allclose(ends_of(skeleton, channels)["b998"], [[0, 999 * IN, 0]], atol=1e-9)
    with pytest.raises(ClipError, match="more than 1000 bones"):
        read(tmp_path, chain(2_000))


def test_4000_frames_of_30_bones_take_less_than_a_second(tmp_path: Path):
    skeleton = read_asf(written(tmp_path, random_skeleton(np.random.default_rng(0), 30))[0])
    rows = [f"{bone.name}{' 12.3456' * len(bone.dof)}\n" for bone in skeleton.bones if bone.dof]
    (tmp_path / "a.amc").write_text("".join(f"{frame}\n{''.join(rows)}" for frame in range(1, 4001)))
    # The machine may be busy with something else: the time of this process counts.
    start = time.process_time()
    ends = bone_turns_and_ends(skeleton, read_amc(tmp_path / "a.amc", skeleton))[1]
    assert ends.shape == (31, 4000, 3)
    assert time.process_time() - start < 1.5
