"""What a compressed frame says of its own size, read before a decoder makes room for it.

A header of 64 x 64 pixels may stand before a frame of two kilobytes that says 60000 x 60000, and decoders believe the
frame: 10 GB and a minute. Markers are looked for as libjpeg does, which goes past what stands between segments.
"""

import struct

# ITU-T T.81 B.1.1.3 and T.87 C.1.1: the start of a frame, whatever its coding process; then precision, lines, samples.
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and RSTn have no length
_ENDS = frozenset({0xD8, 0xD9, 0xDA})  # of a frame that has not begun: another image, no image, a scan
_FRAME = struct.Struct(">HBHHB")  # length, precision, lines, samples per line, components
_LENGTH = struct.Struct(">H")
# ISO/IEC 15444-1 A.5.1: SOC, then SIZ with its length, capabilities, size and offset of the reference grid; after the
# tiles' the number of components.
_CODESTREAM = b"\xff\x4f\xff\x51"
_SIZ = struct.Struct(">4xHH4I16xH")
_BOX = struct.Struct(">I4s")  # ISO/IEC 15444-1 I.4: length, with the head, and type
_LONG = struct.Struct(">Q")
_SIGNATURE = b"\x00\x00\x00\x0cjP  "

Size = tuple[int, int, int]  # rows, columns, components


def jpeg_size(frame: bytes) -> Size:
    """Of a JPEG or JPEG-LS stream. Raises ValueError where it does not say."""
    position = 2
    while frame.startswith(b"\xff\xd8"):
        position = frame.find(b"\xff", position)
        if position < 0:
            break
        marker = frame[position + 1 : position + 2]
        position += 1 if marker == b"\xff" else 2  # any number of 0xFF may stand before a marker
        if marker in (b"\xff", b"\x00") or (marker and marker[0] in _ALONE):
            continue
        room = len(frame) - position
        if not marker or marker[0] in _ENDS or room < _LENGTH.size:
            break
        if marker[0] in _START_OF_FRAME:
            if room < _FRAME.size:
                break
            _, _, rows, columns, components = _FRAME.unpack_from(frame, position)
            return rows, columns, components
        position += _LENGTH.unpack_from(frame, position)[0]
    raise ValueError("the JPEG stream does not say how large it is")


def jpeg_2000_size(frame: bytes) -> Size:
    """Of a JPEG 2000 codestream, bare or in a file format's box. Raises ValueError where it does not say."""
    start = _codestream_in_boxes(frame) if frame.startswith(_SIGNATURE) else 0
    if not frame.startswith(_CODESTREAM, start) or len(frame) - start < _SIZ.size:
        raise ValueError("the JPEG 2000 codestream does not say how large it is")
    _, _, right, bottom, left, top, components = _SIZ.unpack_from(frame, start)
    return bottom - top, right - left, components


def _codestream_in_boxes(frame: bytes) -> int:
    """Where it begins; the frame's end where there is none."""
    position = 0
    while position + _BOX.size <= len(frame):
        length, kind = _BOX.unpack_from(frame, position)
        head = _BOX.size
        if length == 1 and position + head + _LONG.size <= len(frame):  # then it stands after the type, as 8 bytes
            (length,) = _LONG.unpack_from(frame, position + head)
            head += _LONG.size
        if kind == b"jp2c":
            return position + head
        if length < head:  # 0: to the end
            break
        position += length
    return len(frame)
