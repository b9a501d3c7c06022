"""Labels of stores: one text for equal labels, and codes of what many stores have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storemon_flask.labels import StoreLabels, in_order, is_packed, label_text, pack, read_filters, split_filter, unpack

NAMES = ("group", "brand", "region", "platform", "tag:city", "tag:a", "tag:Z")
values = st.sampled_from(["", "West", "East", "é", '"', "a,b"])
given_labels = st.dictionaries(st.sampled_from(NAMES[1:]), values, max_size=6)


@given(given_labels)
def test_equal_labels_are_one_text_whatever_their_order(labels: dict[str, str]) -> None:
    packed = pack(labels)
    assert packed == pack(dict(reversed(labels.items())))
    assert unpack(packed) == {name: value for name, value in labels.items() if value}
    assert (packed == "") == (not any(labels.values()))


def test_labels_are_listed_group_first_and_tags_last() -> None:
    assert in_order(["tag:b", "tag:B", "platform", "region", "group", "brand"]) == [
        *("group", "brand", "region", "platform", "tag:B", "tag:b")
    ]


@given(st.lists(st.tuples(values, given_labels), max_size=12))
def test_codes_say_of_each_store_what_its_labels_say(stores: list[tuple[str, dict[str, str]]]) -> None:
    labels = StoreLabels([group for group, _ in stores], [pack(one) for _, one in stores])
    everything = [{"group": group, **one} for group, one in stores]
    assert labels.names == tuple(in_order({name for one in everything for name, value in one.items() if value}))
    for name in NAMES:
        expected = [one.get(name, "") for one in everything]
        texts, code = labels.codes(name)
        assert texts == sorted(set(expected))
        assert [texts[at] for at in code.tolist()] == expected
        asked = ["West", "", "nowhere"]
        assert labels.codes(name).have_one_of(asked).tolist() == [value in asked for value in expected]
        assert labels.codes(name) is labels.codes(name)
    assert [labels.of_store(at) for at in range(len(stores))] == [unpack(pack(one)) for _, one in stores]


def test_filters_are_names_with_values() -> None:
    asked = ["region=West", "tag:a:b=x=y", "region=", "group=North"]
    assert read_filters(asked) == {"region": ["West", ""], "tag:a:b": ["x=y"], "group": ["North"]}
    for wrong in ("region", "city=Paris", "tag:=x", "=West", ""):
        with pytest.raises(ValueError, match=r"it must be NAME=VALUE, where NAME is group, brand, .* or tag:NAME"):
            split_filter(wrong)


def test_labels_in_words() -> None:
    assert [label_text(*one) for one in (("region", "West"), ("tag:city", "Paris"), ("brand", ""))] == [
        *("region West", "city Paris", "no brand")
    ]


def test_stores_without_any_label() -> None:
    labels = StoreLabels(["", ""], ["", ""])
    assert labels.names == ()
    assert labels.codes("region").values == [""]
    assert np.array_equal(labels.codes("region").code, [0, 0])


@given(given_labels)
def test_only_what_was_packed_counts_as_such(labels: dict[str, str]) -> None:
    assert is_packed(pack(labels))


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "1", "null", "x", '{"region":1}', '{"region":""}', '{"region": "West"}', '{"group":"North"}',
        '{"city":"Paris"}', '{"tag:":"x"}', '{"region":"West","brand":"Acme"}', '{"brand":"a","brand":"b"}', "[" * 10_000,
    ],
)  # fmt: skip
def test_other_texts_are_not_packed_labels(text: str) -> None:
    assert not is_packed(text)
