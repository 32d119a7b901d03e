"""The modules of the standard library that Python tasks can import: what computes, and touches nothing outside."""

MODULES = tuple(
    """
    __future__
    abc array ast base64 binascii bisect calendar cmath codecs collections collections.abc colorsys contextlib copy
    csv dataclasses datetime decimal difflib enum fnmatch fractions functools graphlib hashlib heapq hmac html
    html.parser io itertools json keyword math numbers operator pprint random re secrets statistics string struct
    textwrap time typing types unicodedata urllib.parse uuid warnings weakref xml.etree.ElementTree zlib
    """.split()
)
