"""The line of every key is found, whatever way the document is written in."""

import tomllib
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pollbroker.daemon.positions import KeyPath, lines_of


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key path of a document."""
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, one in value.items():
            found |= paths_of(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            found |= paths_of(one, (*path, number))
    return found


DOCUMENT = '''\
top = 1 # a comment = 2
"quoted.key" = """
[not.a.table]
""""" # the string ends with two quotes
'literal' = \'\'\'
x = 3\'\'\'
[table]
a.b.c = [ 1, # one = 1
  "]", [2,
  3], { inner = "}", "x y".z = 5 } ]
date = 1979-05-27 07:32:00
[ table . sub ]
deep = true
[[list]]
a = 1
[list.sub]
b = 2
[[list.inner]]
[[list]]
a = "\\"[["
[[list.inner]]
c = { d = [ ] }
'''

EXPECTED = {
    ("top",): 1,
    ("quoted.key",): 2,
    ("literal",): 5,
    ("table",): 7,
    ("table", "a"): 8,
    ("table", "a", "b"): 8,
    ("table", "a", "b", "c"): 8,
    ("table", "a", "b", "c", 0): 8,
    ("table", "a", "b", "c", 1): 9,
    ("table", "a", "b", "c", 2): 9,
    ("table", "a", "b", "c", 2, 0): 9,
    ("table", "a", "b", "c", 2, 1): 10,
    ("table", "a", "b", "c", 3): 10,
    ("table", "a", "b", "c", 3, "inner"): 10,
    ("table", "a", "b", "c", 3, "x y"): 10,
    ("table", "a", "b", "c", 3, "x y", "z"): 10,
    ("table", "date"): 11,
    ("table", "sub"): 12,
    ("table", "sub", "deep"): 13,
    ("list",): 14,
    ("list", 0): 14,
    ("list", 0, "a"): 15,
    ("list", 0, "sub"): 16,
    ("list", 0, "sub", "b"): 17,
    ("list", 0, "inner"): 18,
    ("list", 0, "inner", 0): 18,
    ("list", 1): 19,
    ("list", 1, "a"): 20,
    ("list", 1, "inner"): 21,
    ("list", 1, "inner", 0): 21,
    ("list", 1, "inner", 0, "c"): 22,
    ("list", 1, "inner", 0, "c", "d"): 22,
}


def test_the_line_of_each_key_is_the_one_where_it_is_written() -> None:
    assert lines_of(DOCUMENT) == EXPECTED
    assert paths_of(tomllib.loads(DOCUMENT)) == set(EXPECTED)


# A document is drawn together with the line of each of its keys.

_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=32), max_size=6)
_BARE = st.text("ab-_1", min_size=1, max_size=3)


def _basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_SINGLE_LINES = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from(["true", "1e3", "inf", "1979-05-27 07:32:00", "0x1f", "07:32:00"]),
    _TEXTS.map(_basic),
    st.text('ab[]{}#=." ,', max_size=5).map(lambda text: f"'{text}'"),
)
_MULTIPLE_LINES = st.one_of(
    st.lists(_TEXTS, max_size=3).map(lambda ls: '"""' + "\n".join(_basic(one)[1:-1] for one in ls) + '"""'),
    st.lists(st.text('ab[]=#" ', max_size=4), max_size=3).map(lambda ls: "'''" + "\n".join(ls) + "'''"),
    st.sampled_from(['"""a""b"""""', '""""a""""', "'''''a'''''", '"""\\\n  a\\""""']),
)
_KEYS = st.one_of(_BARE, _TEXTS.map(_basic), st.text("a.b #]=", max_size=3).map(lambda text: f"'{text}'"))
_ARRAYS = st.recursive(
    st.one_of(_SINGLE_LINES, _MULTIPLE_LINES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda several: "[" + ", # ] comment\n ".join(several) + "\n]"),
        st.lists(st.tuples(_KEYS, inner), max_size=2, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
        ),
    ),
    max_leaves=6,
)
_DOTTED = st.lists(_KEYS, min_size=1, max_size=3).map(" . ".join)
_STATEMENTS = st.one_of(
    st.tuples(_DOTTED, _ARRAYS).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    _DOTTED.map(lambda key: f"[ {key} ] # = [["),
    _DOTTED.map(lambda key: f"[[{key}]]"),
    st.sampled_from(["", "# [comment] = '", "   "]),
)


def _is_valid(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


# Every key that tomllib finds has a line, no other has one, and the statement that gave the key begins at or before it.
@given(st.lists(_STATEMENTS, max_size=8))
@example(['a = """x""""" ', "b = 1"])
@example(["[[a]]", "[a.b]", "[[a]]", "[a.b]", "c = 1"])
def test_exactly_the_keys_of_the_document_have_lines(statements: list[str]) -> None:
    kept: list[str] = []
    for statement in statements:
        if _is_valid("\n".join([*kept, statement])):
            kept.append(statement)
    text = "\n".join(kept)
    lines = lines_of(text)
    assert set(lines) == paths_of(tomllib.loads(text))

    # The keys that a statement adds are within its lines.
    first = 1
    before: set[KeyPath] = set()
    for number, statement in enumerate(kept):
        last = first + statement.count("\n")
        now = paths_of(tomllib.loads("\n".join(kept[: number + 1])))
        assert all(first <= lines[path] <= last for path in now - before)
        before, first = now, last + 1
