"""Ask a page what it drew, and hold it to what Python computes, array by array, word by word."""

import base64

# What the root of an explorer drew last, its arrays as base64.
DRAWN = """(root) => {
    const text = (array) => btoa(Array.from(
        new Uint8Array(array.buffer, array.byteOffset, array.byteLength),
        (byte) => String.fromCharCode(byte),
    ).join(""));
    const plain = (thing) => {
        if (ArrayBuffer.isView(thing)) return text(thing);
        if (Array.isArray(thing)) return thing.map(plain);
        if (thing === null || typeof thing !== "object") return thing;
        return Object.fromEntries(Object.entries(thing).map(([name, one]) => [name, plain(one)]));
    };
    const { panels, caption } = root.drawn();
    return plain({ panels, caption });
}"""


def differences(drawn, computed, place="picture"):
    """List where what was drawn is not what was computed.

    Args:
        drawn: what ``DRAWN`` gave, or a part of it.
        computed: of a picture, what its ``message()`` says, or the same part of it.
    """
    if isinstance(computed, bytes):
        same = base64.b64decode(drawn) == computed
        return [] if same else [f"{place}: other numbers"]
    if isinstance(computed, dict) and isinstance(drawn, dict) and drawn.keys() == computed.keys():
        parts = [(drawn[name], computed[name], f"{place}.{name}") for name in computed]
    elif isinstance(computed, list) and isinstance(drawn, list) and len(drawn) == len(computed):
        parts = [
            (*pair, f"{place}[{n}]") for n, pair in enumerate(zip(drawn, computed, strict=True))
        ]
    else:
        return [] if drawn == computed else [f"{place}: {drawn!r} is not {computed!r}"]
    return [difference for part in parts for difference in differences(*part)]
