"""
Images as tables of compressed tiles (FITS standard 4.0, section 10): smaller, and the same to the last bit.

One image is one tile, packed by GZIP_2, which any FITS reader knows. astropy packs at zlib's highest level, which takes
ten times as long, and needs four times as long to read such tables as to read images: hence both ways are here.
"""

import gzip
import zlib

import numpy as np

__all__ = ["BLOCK", "is_packed", "only_packed", "pack", "unpack"]

BLOCK, _CARD = 2880, 80
# Of zlib: higher ones save a few percent in several times the time.
_LEVEL = 2
_SMALLEST = -100  # power of two that single precision holds with all its digits
_END = b"END".ljust(_CARD)
_KEYS = ("PCOUNT", "EXTNAME", "ZBITPIX", "ZNAXIS1", "ZNAXIS2")


def _table_cards(length, name, bitpix, width, height):
    """The cards with which the header of a packed image begins; the values are texts, names in quotes."""
    cards = [
        *(("XTENSION", "'BINTABLE'"), ("BITPIX", "8"), ("NAXIS", "2"), ("NAXIS1", "8"), ("NAXIS2", "1")),
        *(("PCOUNT", length), ("GCOUNT", "1"), ("TFIELDS", "1"), ("TTYPE1", "'COMPRESSED_DATA'")),
        *(("TFORM1", f"'1PB({length})'"), ("EXTNAME", name), ("ZIMAGE", "T"), ("ZCMPTYPE", "'GZIP_2  '")),
        *(("ZBITPIX", bitpix), ("ZNAXIS", "2"), ("ZNAXIS1", width), ("ZNAXIS2", height)),
        *(("ZTILE1", width), ("ZTILE2", height)),
    ]
    # Floating-point numbers as they are.
    return _encoded(cards + [("ZQUANTIZ", "'NONE    '")] * bitpix.startswith("-"))


def _image_cards(name, bitpix, width, height):
    """The cards with which the header of the same image begins where it is not packed."""
    cards = [("XTENSION", "'IMAGE   '"), ("BITPIX", bitpix), ("NAXIS", "2"), ("NAXIS1", width), ("NAXIS2", height)]
    return _encoded([*cards, ("PCOUNT", "0"), ("GCOUNT", "1"), ("EXTNAME", name)])


def _encoded(cards):
    aligned = (f"{key:8}= " + (value.ljust(20) if value[0] == "'" else value.rjust(20)) for key, value in cards)
    return "".join(card.ljust(_CARD) for card in aligned).encode("latin-1")


def _padded(content, fill=b"\0"):
    return content + fill * (-len(content) % BLOCK)


def pack(data, header, name):
    """Bytes of an HDU with an image, its header (without cards on the array) and its name."""
    pixels, step = _whole_steps(data) or (data, 1.0)
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">"))
    # The first bytes of all numbers, which hardly differ, then the second ones, and so on.
    shuffled = pixels.view(np.uint8).reshape(-1, pixels.itemsize).T
    heap = gzip.compress(shuffled.tobytes(), _LEVEL, mtime=0)
    bitpix = 8 * pixels.itemsize * (-1 if pixels.dtype.kind == "f" else 1)
    height, width = pixels.shape
    cards = _table_cards(str(len(heap)), f"'{name:8}'", str(bitpix), str(width), str(height))
    scale = b"" if step == 1.0 else _encoded([("BSCALE", repr(step).upper())])
    rest = header.tostring(endcard=False, padding=False).encode("ascii")
    table = np.array([len(heap), 0], ">i4").tobytes()  # length and place of the only tile
    return _padded(cards + scale + rest + _END, b" ") + _padded(table + heap)


def _whole_steps(data):
    """
    Integers of 16 or 32 bits and the power of two of which the data are multiples; None if there are no such integers.

    A reader multiplies 16 bits in single precision and 32 bits in double precision: both products are exact.
    """
    if data.dtype.kind != "f" or not np.isfinite(data).all():
        return None
    highest = int(np.frexp(np.abs(data).max(initial=0.0))[1])
    lowest = highest - 31
    if lowest < _SMALLEST:
        return None
    scaled = np.ldexp(data.astype(float), -lowest)
    whole = scaled.astype(np.int64)
    if not np.array_equal(whole, scaled):
        return None
    # The lowest bit that any number has; steps need not be above 1.
    common = int(np.bitwise_or.reduce(np.abs(whole), axis=None))
    shift = min((common & -common).bit_length() - 1, -lowest) if common else -lowest
    if shift < 0:
        return None
    lowest += shift
    return (whole >> shift).astype(np.int16 if highest - lowest < 16 else np.int32), 2.0**lowest


def _start(content, place):
    """Values of `_KEYS` and the cards of a packed image whose HDU begins here, or None."""
    values = {}
    for card in range(place, place + 20 * _CARD, _CARD):
        text = content[card : card + _CARD].decode("latin-1")
        values[text[:8].rstrip()] = text[10:].strip()
    if not values.keys() >= set(_KEYS) or not all(values[key] for key in _KEYS):
        return None
    found = tuple(values[key] for key in _KEYS)
    cards = _table_cards(*found)
    return (found, cards) if content[place : place + len(cards)] == cards else None


def is_packed(head):
    """Whether a file with these first two blocks has an HDU without data, then a packed image as `pack` makes them."""
    return head[:BLOCK].rstrip().endswith(b" END") and _start(head, BLOCK) is not None


def only_packed(content):
    """Whether all compressed images in a file are as `pack` makes them, so that zlib alone unpacks them."""
    place = content.find(b"ZIMAGE  ")
    while place >= 0:
        if place < 11 * _CARD or _start(content, place - 11 * _CARD) is None:
            return False
        place = content.find(b"ZIMAGE  ", place + 1)
    return True


def unpack(content, most):
    """
    A file with its first HDU, and all packed images that follow it as they were.

    ValueError where one is damaged, or all together have more than ``most`` bytes.
    """
    parts, place = [content[:BLOCK]], BLOCK
    while (start := _start(content, place)) is not None:
        (length, *values), cards = start
        name, bitpix, width, height = values
        end = content.find(_END, place)
        while end >= 0 and end % _CARD:  # a text in a card
            end = content.find(_END, end + 1)
        rest, begin = content[place + len(cards) : end], end + _CARD + -(end + _CARD) % BLOCK
        itemsize = abs(int(bitpix)) // 8
        due = itemsize * int(width) * int(height)
        most -= due
        if most < 0:
            raise ValueError(f"{name} unpacks to more bytes than are read from a file of its size")
        heap = content[begin + 8 : begin + 8 + int(length)]
        pixels = zlib.decompressobj(wbits=31).decompress(heap, due + 1)
        if end < 0 or not len(pixels) == due > 0:
            raise ValueError(f"{name} is truncated or damaged: it unpacks to {len(pixels)} bytes, {due} are declared")
        pixels = np.frombuffer(pixels, np.uint8).reshape(itemsize, -1).T.tobytes()
        parts += [_padded(_image_cards(*values) + rest + _END, b" "), _padded(pixels)]
        place = begin + 8 + int(length)
        place += -place % BLOCK
    return b"".join([*parts, content[place:]])
