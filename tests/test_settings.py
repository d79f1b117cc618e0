"""Settings: read once, checked at once."""

from __future__ import annotations

import pytest

from worker.errors import BadSetting
from worker.settings import Settings, read, table

BAD = [
    ({"PRISMRANK_DIVERSITY": "2"}, r"PRISMRANK_DIVERSITY: expected `float` <= 1\.0, got '2'"),
    ({"PRISMRANK_DIVERSITY": "much"}, "PRISMRANK_DIVERSITY: expected `float`"),
    ({"PRISMRANK_IN_FLIGHT": "0"}, "PRISMRANK_IN_FLIGHT"),
    ({"PRISMRANK_METHOD": "magic"}, "PRISMRANK_METHOD: expected one of facets, mmr, coverage"),
    ({"PRISMRANK_COLOUR": "red"}, "PRISMRANK_COLOUR: no such setting"),
    ({"PRISMRANK_HTTP_HOST": "0.0.0.0"}, "PRISMRANK_HTTP_TOKEN: expected a token"),
    ({"PRISMRANK_PROFILES": "yes"}, "PRISMRANK_PROFILES"),
    ({"PRISMRANK_CHALLENGER": "live"}, "PRISMRANK_CHALLENGER: expected another alias than"),
    ({"PRISMRANK_CHALLENGER": "../x"}, "PRISMRANK_CHALLENGER: expected an alias: lower-case"),
    ({"PRISMRANK_CHALLENGER_SHARE": "1.5"}, r"PRISMRANK_CHALLENGER_SHARE: expected `float` <= 0.5"),
    ({"PRISMRANK_CHALLENGER_SHARE": "0.1"}, "PRISMRANK_CHALLENGER: expected an alias, or challe"),
    ({"PRISMRANK_CHALLENGER_GROUP": "=Acme"}, "PRISMRANK_CHALLENGER_GROUP: expected field=value"),
    ({"PRISMRANK_CHALLENGER_GROUP": "brand=Acme"}, "expected challenger_shadow above 0"),
    ({"PRISMRANK_CHALLENGER_DRIFT": "0.2"}, "expected 1, or challenger_shadow above 0"),
    ({"PRISMRANK_CHALLENGER_GROUP": "brand"}, "PRISMRANK_CHALLENGER_GROUP: expected field=value"),
    ({"PRISMRANK_CHALLENGER_GROUP": "colour=red"}, "one of category, brand, seller, group_id, att"),
]


@pytest.mark.parametrize(("environment", "message"), BAD)
def test_a_bad_setting_names_its_variable(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        read(environment)


def test_two_settings_suffice() -> None:
    found = read({"PRISMRANK_KAFKA": "k:9092", "PRISMRANK_REGISTRY": "s3://models", "HOME": "/"})
    assert (found.kafka, found.registry) == ("k:9092", "s3://models")


def test_settings_are_read_from_text() -> None:
    found = read(
        {
            "PRISMRANK_DIVERSITY": "0.5",
            "PRISMRANK_DEADLINE_MS": "150",
            "PRISMRANK_REPLY_TOPICS": "a,b",
            "PRISMRANK_TOPIC_PREFIX": "de.",
        }
    )
    assert (found.diversity, found.deadline_ms, found.reply_topics) == (0.5, 150.0, ("a", "b"))
    assert found.topic("ranked-lists") == "de.ranked-lists"


def test_the_group_that_a_challenger_must_not_hide_is_read_from_text() -> None:
    shadow = {"PRISMRANK_CHALLENGER": "next", "PRISMRANK_CHALLENGER_SHADOW": "0.1"}
    group = read({"PRISMRANK_CHALLENGER_GROUP": "attributes.size=small=s", **shadow}).watched_group
    assert group is not None
    assert (group.field, group.value) == ("attributes.size", "small=s")
    assert Settings().watched_group is None


def test_what_a_list_needs_of_the_settings_is_in_its_dials() -> None:
    dials = read({"PRISMRANK_EXPLORE": "0.2", "PRISMRANK_PAIR_CANDIDATES": "0"}).dials
    assert (dials.explore, dials.pair_candidates) == (0.2, 0)


def test_the_table_names_every_setting() -> None:
    assert table().count("\n") == 1 + len(Settings.__struct_fields__)
