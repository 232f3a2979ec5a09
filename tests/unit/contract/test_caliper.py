"""What Caliper events are called, and what they are about."""

from collections import Counter
from typing import Any

import pytest

from ingest.contract.caliper import Names, Shape, canvas_id
from ingest.contract.catalogue import Catalogue, EventType, catalogue
from tests.support.builders import CANVAS, caliper_entity, caliper_event, envelope, without
from tests.support.each import each_case

_SHAPES = [(shape, entry.name) for entry in catalogue() for shape in entry.caliper]


def _event_of(shape: Shape) -> dict[str, Any]:
    prefix = "//campus.example.edu/" if shape.prefix.startswith("http") else "10000000000007"
    thing = {
        "id": f"{shape.prefix}:{prefix}",
        "type": shape.object,
        "extensions": {CANVAS: {shape.extension: "active"} if shape.extension else {}},
    }
    return caliper_event(type=shape.type, action=shape.action, object=thing)


def test_thirty_types_are_known_by_their_shapes() -> None:
    assert len({name for _, name in _SHAPES}) == 30


def test_no_two_types_claim_the_same_shape() -> None:
    claimed = Counter(shape for shape, _ in _SHAPES)
    assert [shape for shape, count in claimed.items() if count > 1] == []


def test_every_shape_is_its_own_types() -> None:
    with each_case() as case:
        for shape, name in _SHAPES:
            with case(name, shape):
                assert catalogue().caliper_type(_event_of(shape)) == name


def test_two_types_of_one_shape_are_an_error() -> None:
    shape = _SHAPES[0][0]
    entries = (
        EventType(source="live-events", name=name, about="x", fields={}, caliper=(shape,))
        for name in ("one", "other")
    )
    with pytest.raises(ValueError, match="other and one"):
        Catalogue(entries)


@pytest.mark.parametrize("action", ["Created", "Modified"])
def test_enrollment_states_are_told_from_enrollments_by_their_state(action: str) -> None:
    told = "created" if action == "Created" else "updated"
    enrollment = caliper_entity("enrollment", "7", "Entity", workflow_state="active")
    state = caliper_entity("enrollment", "7", "Entity", state="active")
    names = [
        catalogue().caliper_type(caliper_event(action=action, object=thing))
        for thing in (enrollment, state)
    ]
    assert names == [f"enrollment_{told}", f"enrollment_state_{told}"]


@pytest.mark.parametrize("kind", ["course", "attachment", "wikiPage", "anything_new"])
def test_whatever_is_opened_is_an_asset(kind: str) -> None:
    event = caliper_event(
        type="NavigationEvent",
        action="NavigatedTo",
        object=caliper_entity(kind, "7", "Entity"),
    )
    assert catalogue().caliper_type(event) == "asset_accessed"


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"action": "Deleted"}, "caliper.event.deleted"),
        ({"type": "ViewEvent", "action": "Viewed"}, "caliper.view_event.viewed"),
        ({"action": "NavigatedTo"}, "caliper.event.navigated_to"),
        ({"action": None}, "caliper.event"),
        ({"action": ["Created"]}, "caliper.event"),
        ({"object": "urn:instructure:canvas:course:7"}, "caliper.event.created"),
        ({"object": {"id": "urn:instructure:canvas:course:7"}}, "caliper.event.created"),
        ({"object": {"id": 7, "type": "CourseOffering"}}, "caliper.event.created"),
        ({"object": caliper_entity("group", "7", "CourseOffering")}, "caliper.event.created"),
        (
            {"object": {"id": "urn:other:canvas:course:7", "type": "CourseOffering"}},
            "caliper.event.created",
        ),
        ({"object": {"id": "::::::", "type": "CourseOffering"}}, "caliper.event.created"),
    ],
)
def test_shape_that_is_nobodys_has_a_name_of_its_own(members: dict[str, Any], name: str) -> None:
    assert catalogue().caliper_type(caliper_event(**members)) == name


def test_longest_prefix_wins() -> None:
    near, far = (Shape(type="E", action="A", object="T", prefix=p) for p in ("urn:a", "urn:a:b"))
    names = Names([(near, "near"), (far, "far")])
    told = [
        names.of({"type": "E", "action": "A", "object": {"type": "T", "id": id_}})
        for id_ in ("urn:a:1", "urn:a:b:1", "urn:a:b:c:1", "urn:a", "urn:b:1")
    ]
    assert told == ["near", "far", "far", "caliper.e.a", "caliper.e.a"]


def test_event_that_only_an_extension_would_identify_is_nobodys() -> None:
    shape = Shape(type="E", action="A", object="T", prefix="urn", extension="state")
    event = {"type": "E", "action": "A", "object": {"type": "T", "id": "urn:1"}}
    assert Names([(shape, "known")]).of(event) == "caliper.e.a"


@pytest.mark.parametrize(
    ("thing", "kind", "id_"),
    [
        ({"id": "urn:instructure:canvas:user:7"}, None, "7"),
        ({"id": "urn:instructure:canvas:user:7"}, "user", "7"),
        ({"id": "urn:instructure:canvas:user:7"}, "use", None),
        ("urn:instructure:canvas:session:ab12", "session", "ab12"),
        ({"id": "urn:instructure:canvas:user:"}, "user", None),
        ({"id": "urn:instructure:canvas:user"}, None, None),
        ({"id": "http://campus.example.edu/"}, None, None),
        ({"id": 7}, None, None),
        ([], None, None),
        (None, None, None),
    ],
)
def test_id_is_the_end_of_a_urn_of_canvas(thing: Any, kind: str | None, id_: str | None) -> None:
    assert canvas_id(thing, kind) == id_


@pytest.mark.parametrize(
    ("event_type", "thing", "entity"),
    [
        ("course_created", caliper_entity("course", "7", "CourseOffering"), "7"),
        ("course_created", "urn:instructure:canvas:course:7", "7"),
        ("course_created", {"extensions": {CANVAS: {"entity_id": "7"}}}, "7"),
        ("course_created", {"extensions": {CANVAS: {"entity_id": 7}}}, None),
        ("course_created", {"extensions": {CANVAS: []}}, None),
        ("course_created", {"extensions": None}, None),
        ("course_created", None, None),
        ("caliper.event.moved", caliper_entity("course", "7", "CourseOffering"), "7"),
        ("logged_in", {"id": "http://campus.example.edu/"}, None),
        ("user_account_association_created", caliper_entity("account", "7", "Entity"), None),
    ],
)
def test_caliper_event_is_about_its_object(event_type: str, thing: Any, entity: str | None) -> None:
    metadata = {"event_type": event_type, "format": "caliper"}
    assert catalogue().entity_id(envelope(metadata, caliper_event(object=thing))) == entity


def test_caliper_event_without_an_object_is_about_nothing() -> None:
    body = without(caliper_event(), "object")
    assert catalogue().entity_id(envelope({"format": "caliper"}, body)) is None


def test_event_in_canvas_format_is_about_what_its_key_names() -> None:
    assert catalogue().entity_id(envelope()) == "3012"
    assert catalogue().entity_id(envelope({"event_type": "course_evaporated"})) is None


def test_no_table_of_caliper_events_is_another_types() -> None:
    tables = {entry.table for entry in catalogue()}
    own = {f"{entry.table}__caliper" for entry in catalogue() if entry.caliper}
    assert tables.isdisjoint(own)
    # PostgreSQL cuts longer names
    assert all(len(table) <= 63 for table in own)
