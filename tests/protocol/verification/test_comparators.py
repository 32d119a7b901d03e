"""When outputs are the same: by bytes, by pixels whatever the file says besides, by numbers within their tolerance."""

from __future__ import annotations

import io
import struct
import zlib
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hearthmesh.node.python.guest.hearth_values import pack
from hearthmesh.protocol.verification.comparators import DEPTH_MAX, parse_comparator, pixel_digest
from hearthmesh.protocol.verification.verdict import Vote


def same(how: str, a: bytes, b: bytes, *, parts: bool = False) -> bool:
    def vote(output: bytes, node: bytes) -> Vote:
        return Vote(0, 1, node, node, 0, sha256(output).digest(), output)

    comparator = parse_comparator(how, parts=parts)
    return comparator.same(vote(a, b"a"), vote(b, b"b"))


def png(image: Image.Image, note: str = "", level: int = 6) -> bytes:
    info, out = PngInfo(), io.BytesIO()
    if note:
        info.add_text("date", note)
    image.save(out, "PNG", pnginfo=info, compress_level=level)
    return out.getvalue()


def picture(mode: str, shade: int = 0) -> Image.Image:
    image = Image.new("RGB", (31, 17))
    image.putdata([(7 * x % 256, (x * x + shade) % 256, 255 - x % 256) for x in range(31 * 17)])
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_pictures_are_the_same_by_their_pixels(mode: str) -> None:
    early, late = png(picture(mode), "monday"), png(picture(mode), "tuesday", level=1)
    assert early != late and same("pixels", early, late) and not same("exact", early, late)


def test_one_pixel_makes_another_picture() -> None:
    other = picture("RGB")
    other.putpixel((3, 3), (1, 2, 3))
    assert not same("pixels", png(picture("RGB")), png(other))


def test_a_picture_is_unfiltered_before_it_is_hashed() -> None:
    """All five row filters, written by hand, of one grey picture."""
    rows = [bytes([10, 20, 40, 80]), bytes([11, 19, 44, 81]), bytes([9, 9, 9, 9]), bytes([200, 100, 50, 25]), bytes(4)]

    def filtered(kind: int, row: bytes, above: bytes) -> bytes:
        out = bytearray([kind])
        for x, value in enumerate(row):
            left, up, corner = (row[x - 1] if x else 0), above[x], (above[x - 1] if x else 0)
            guess = left + up - corner
            near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            out.append((value - (0, left, up, (left + up) // 2, near)[kind]) % 256)
        return bytes(out)

    def build(kinds: tuple[int, ...]) -> bytes:
        data = b"".join(filtered(k, row, above) for k, row, above in zip(kinds, rows, [bytes(4), *rows], strict=False))
        head = struct.pack(">IIBBBBB", 4, 5, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
        return b"\x89PNG\r\n\x1a\n" + body

    plain = pixel_digest(build((0, 0, 0, 0, 0)))
    assert plain is not None and plain == pixel_digest(build((0, 1, 2, 3, 4))) == pixel_digest(build((4, 3, 1, 2, 3)))


def test_netpbm_comments_do_not_count() -> None:
    assert same("pixels", b"P6 2 1 255\n" + b"abcdef", b"P6\n# by hand\n2 1\n255\n" + b"abcdef")
    assert not same("pixels", b"P6 2 1 255\nabcdef", b"P6 2 1 255\nabcdeg")


def test_a_head_of_nothing_but_spaces_is_read_once_from_end_to_end() -> None:
    """Not in each of the two to the power of nine hundred ways to take them."""
    assert pixel_digest(b"P6" + b" " * 900 + b"x") is None
    assert pixel_digest(b"P6" + b" \n" * 450 + b"2 1 255\nabcdef") == pixel_digest(b"P6 2 1 255\nabcdef")


def test_a_pair_is_compared_once_however_often_its_case_is_looked_at() -> None:
    comparator = parse_comparator("pixels")
    one, other = png(picture("RGB")), png(picture("RGB"), "monday")
    votes = [Vote(n, 1, b"%d" % n, b"%d" % n, 0, sha256(each).digest(), each) for n, each in enumerate((one, other))]
    assert comparator.same(*votes) and comparator.same(*reversed(votes))
    assert list(comparator.answers.values()) == [True]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture_are_none(content: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"P6 "):
        pixel_digest(head + content)


def test_a_picture_that_unpacks_to_more_than_its_size_is_none() -> None:
    head = struct.pack(">IIBBBBB", 4, 5, 8, 0, 0, 0, 0)
    bomb = zlib.compress(bytes(10_000_000))
    chunks = [(b"IHDR", head), (b"IDAT", bomb)]
    body = b"".join(struct.pack(">I", len(d)) + n + d + bytes(4) for n, d in chunks)
    assert pixel_digest(b"\x89PNG\r\n\x1a\n" + body) is None


@pytest.mark.parametrize(
    ("how", "a", "b", "verdict"),
    [
        ("numeric(abs=0.01)", b"1.000 x\n", b"1.005 x\n", True),
        ("numeric(abs=0.01)", b"1.000 x\n", b"1.005 y\n", False),
        ("numeric(abs=0.01)", b"1.0\n", b"1.0\n2.0\n", False),
        ("numeric(rel=0.1)", b"100,nan,inf", b"109,nan,inf", True),
        ("numeric(rel=0.1)", b"100", b"120", False),
        ("numeric(rel=0.1)", b"inf", b"1e308", False),
        ("numeric(abs=0, rel.1=0.5)", b"1 10", b"1 14", True),
        ("numeric(abs=0, rel.1=0.5)", b"1.1 10", b"1 14", False),
    ],
)
def test_numbers_are_the_same_within_their_tolerance(how: str, a: bytes, b: bytes, verdict: bool) -> None:
    assert same(how, a, b) is verdict and same(how, b, a) is verdict


def output(stdout: bytes, **files: bytes) -> bytes:
    """As a command leaves it."""
    return msgspec.msgpack.encode([stdout, files])


def test_each_part_of_a_commands_output_is_compared_by_itself() -> None:
    early, late = png(picture("RGB"), "monday"), png(picture("RGB"), "tuesday", level=1)
    other = png(picture("RGB", shade=1))
    assert same("pixels", output(b"done", tile=early), output(b"done", tile=late), parts=True)
    assert not same("pixels", output(b"done", tile=early), output(b"gone", tile=late), parts=True)
    assert not same("pixels", output(b"done", tile=early), output(b"done", tile=other), parts=True)
    assert not same("pixels", output(b"done", tile=early), output(b"done", tail=early), parts=True)
    assert not same("pixels", output(b"done", tile=early), late, parts=True)
    near = output(b"1.0\n", sums=b"2 3.001"), output(b"1.0000001\n", sums=b"2 3")
    assert same("numeric(abs=0.01)", *near, parts=True)
    assert not same("numeric(abs=0.01)", output(b"1.0"), output(b"1.1"), parts=True)
    assert same("exact", near[0], near[0], parts=True) and not same("exact", *near, parts=True)


@pytest.mark.parametrize("how", ["pixels", "numeric(rel=1e-6)", "values(rel=1e-6)"])
def test_no_file_stands_for_the_stdout(how: str) -> None:
    honest, liar = output(b"1.0\n", sums=b"2"), output(b"9.9\n", **{"": b"1.0\n"}, sums=b"2")
    assert not same(how, honest, liar, parts=True) and not same(how, liar, honest, parts=True)
    no_bytes = msgspec.msgpack.encode(["1.0\n", {"sums": b"2"}])
    assert not same(how, honest, no_bytes, parts=True)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_bytes_that_are_no_commands_output_are_the_same_only_to_the_byte(a: bytes, b: bytes) -> None:
    for how in ("numeric(abs=9)", "values(abs=9)", "pixels"):
        assert same(how, a, b, parts=True) == (a == b) or a[:1] == b"\x92"


@pytest.mark.parametrize(
    ("how", "a", "b", "verdict"),
    [
        ("values(rel=1e-9)", [1.0, {"x": (2.0, "y")}], [1.0 + 1e-12, {"x": (2.0 - 1e-12, "y")}], True),
        ("values(rel=1e-9)", [1.0, {"x": (2.0, "y")}], [1.0, {"x": (2.1, "y")}], False),
        ("values(abs=0.1)", 1.0 + 2.0j, 1.05 + 2.0j, True),
        ("values(abs=0.1)", 1.0 + 2.0j, 1.0 + 3.0j, False),
        ("values(abs=0.1)", float("nan"), float("nan"), True),
        ("values(abs=9)", 1, 2, False),
        ("values(abs=9)", 1, 1.0, False),
        ("values(abs=9)", [1.0], (1.0,), False),
        ("values(abs=9)", [1.0], [1.0, 2.0], False),
        ("values(abs=9)", {"a": 1.0}, {"b": 1.0}, False),
        ("values(abs=9)", "1.0", "2.0", False),
        ("values(abs=9)", 10**30, 10**30 + 1, False),
        ("values(abs=9)", b"\xcb" + bytes(8), b"\xcb" + bytes([0] * 7 + [1]), False),
    ],
)
def test_values_are_the_same_where_their_floats_are_near(how: str, a: object, b: object, verdict: bool) -> None:
    assert same(how, pack(a), pack(b)) is verdict and same(how, pack(b), pack(a)) is verdict
    assert same(how, output(pack(a)), output(pack(b)), parts=True) is verdict
    assert same(how, output(b"", result=pack(a)), output(b"", result=pack(b)), parts=True) is verdict


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_bytes_that_are_no_values_are_the_same_only_to_the_byte(a: bytes, b: bytes) -> None:
    assert not same("values(abs=9)", a, b) or a == b or b"\xcb" in a + b or b"\xca" in a + b
    assert same("values(abs=9)", a, a)


def test_values_nested_deeper_than_anybody_packs_are_no_values() -> None:
    def nested(value: float, depth: int) -> bytes:
        """In tuples, each of which is an extension within another."""
        layers, size = [b"\xcb" + struct.pack(">d", value)], 9
        for _ in range(depth):
            layers.append(b"\xc9" + struct.pack(">I", size + 3) + b"\x02\xdc\0\1")
            size += 9
        return b"".join(reversed(layers))

    whole: object = 1.0
    for _ in range(DEPTH_MAX):
        whole = (whole,)
    assert nested(1.0, DEPTH_MAX) == pack(whole) or same("values(abs=0)", nested(1.0, DEPTH_MAX), pack(whole))
    assert same("values(abs=9)", nested(1.0, DEPTH_MAX), nested(2.0, DEPTH_MAX))
    assert not same("values(abs=9)", nested(1.0, DEPTH_MAX + 1), nested(2.0, DEPTH_MAX + 1))
    assert not same("values(abs=9)", nested(1.0, 100_000), nested(2.0, 100_000))
    deep, other = b"\x91" * 100_000 + b"\x01", b"\x91" * 100_000 + b"\x02"
    assert not same("values(abs=9)", deep, other)
    assert not same("values(abs=9)", output(deep), output(other), parts=True)


def test_without_the_bytes_only_digests_count() -> None:
    comparator = parse_comparator("numeric(abs=5)")
    far = Vote(0, 1, b"a", b"a", 0, b"1"), Vote(1, 1, b"b", b"b", 0, b"2")
    assert not comparator.same(*far) and comparator.same(far[0], far[0]._replace(node=b"b"))


@pytest.mark.parametrize(
    "text", ["", "bytes", "numeric()", "numeric(abs=-1)", "numeric(abs=nan)", "numeric(tol=1)", "values(rel.1=1)"]
)
def test_an_unknown_comparator_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|tolerance"):
        parse_comparator(text)
