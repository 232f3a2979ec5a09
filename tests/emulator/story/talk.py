"""What events say of discussions and groups. As `bodies`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tests.emulator.story.bodies import Body
from tests.emulator.story.ids import global_id, local_id
from tests.emulator.story.things import Entry, Group, GroupSet, Membership, Topic
from tests.emulator.story.times import seconds, with_offset


def topic(topic: Topic, now: datetime) -> Body:
    """Of discussion_topic_created and discussion_topic_updated."""
    return {
        "discussion_topic_id": global_id(topic.number),
        "context_id": local_id(topic.course.number),
        "context_type": "Course",
        "assignment_id": None,
        "title": topic.title,
        "body": topic.body,
        "is_announcement": topic.announcement,
        "lock_at": with_offset(topic.lock_at) if topic.lock_at else None,
        "updated_at": seconds(now),
        "workflow_state": topic.state,
    }


def entry(entry: Entry, write: Callable[[int], str] = local_id) -> Body:
    """Of discussion_entry_created; of discussion_entry_updated and _deleted with ids global."""
    return {
        "discussion_entry_id": write(entry.number),
        "discussion_topic_id": write(entry.topic.number),
        "parent_discussion_entry_id": None if entry.parent is None else write(entry.parent),
        "user_id": write(entry.person.number),
        "text": entry.text,
        "created_at": seconds(entry.created_at),
    }


def group_set(set_: GroupSet) -> Body:
    """Of group_category_created."""
    return {
        "group_category_id": global_id(set_.number),
        "group_category_name": set_.name,
        "group_limit": set_.limit,
        "context_id": local_id(set_.course.number),
        "context_type": "Course",
    }


def group(group: Group) -> Body:
    """Of group_created and group_updated."""
    course = group.set.course
    return {
        "group_id": global_id(group.number),
        "group_name": group.name,
        "group_category_id": global_id(group.set.number),
        "group_category_name": group.set.name,
        "account_id": global_id(course.account.number),
        "context_id": global_id(course.number),
        "context_type": "Course",
        "max_membership": group.set.limit,
        "uuid": group.uuid,
        "workflow_state": group.state,
    }


def membership(membership: Membership) -> Body:
    """Of group_membership_created and group_membership_updated."""
    group = membership.group
    return {
        "group_membership_id": global_id(membership.number),
        "group_id": global_id(group.number),
        "group_name": group.name,
        "group_category_id": global_id(group.set.number),
        "group_category_name": group.set.name,
        "user_id": global_id(membership.person.number),
        "workflow_state": membership.state,
    }
