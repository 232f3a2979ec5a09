"""What events say of people, courses and what is in courses.

The fields are those of canvas-lms lib/canvas/live_events.rb. Each field has its ids in one form,
global or local, whatever other types do; where the form is not known, it is global.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.emulator.school import School
from tests.emulator.story.ids import global_id, local_id
from tests.emulator.story.things import (
    Account,
    Course,
    Enrollment,
    File,
    Item,
    Module,
    Page,
    Person,
    Section,
)
from tests.emulator.story.times import ZONE_NAME, millis, seconds

Body = dict[str, Any]


def account(school: School, account: Account) -> Body:
    """Of account_created."""
    return {
        "account_id": global_id(account.number),
        "name": account.name,
        "root_account_id": school.root_account_id,
        "root_account_uuid": school.root_account_uuid,
        "parent_account_id": school.root_account_id,
        "external_status": "active",
        "workflow_state": "active",
        "domain": school.hostname,
        "default_time_zone": ZONE_NAME,
        "default_locale": None,
    }


def user(person: Person, now: datetime) -> Body:
    """Of user_created and user_updated."""
    return {
        "user_id": global_id(person.number),
        "uuid": person.uuid,
        "name": person.name,
        "short_name": person.short_name,
        "user_login": person.login,
        "user_sis_id": person.sis_id,
        "workflow_state": "registered",
        "created_at": seconds(person.created_at),
        "updated_at": seconds(now),
    }


def course(course: Course, now: datetime, state: str) -> Body:
    """Of course_created and course_updated."""
    return {
        "course_id": global_id(course.number),
        "account_id": global_id(course.account.number),
        "account_uuid": course.account.uuid,
        "uuid": course.uuid,
        "name": course.name,
        "created_at": seconds(course.created_at),
        "updated_at": seconds(now),
        "workflow_state": state,
    }


def section(school: School, section: Section) -> Body:
    """Of course_section_created and course_section_updated."""
    return {
        "course_section_id": local_id(section.number),
        "course_id": local_id(section.course.number),
        "root_account_id": local_id(school.root_account_number),
        "name": section.name,
        "sis_source_id": section.sis_id,
        "default_section": section.default,
        "accepting_enrollments": True,
        "can_manually_enroll": None,
        "enrollment_term_id": None,
        "integration_id": None,
        "nonxlist_course_id": None,
        "restrict_enrollments_to_section_dates": False,
        "sis_batch_id": None,
        "start_at": None,
        "end_at": None,
        "stuck_sis_fields": [],
        "workflow_state": "active",
    }


def enrollment(enrollment: Enrollment, now: datetime) -> Body:
    """Of enrollment_created and enrollment_updated."""
    return {
        "enrollment_id": global_id(enrollment.number),
        "course_id": global_id(enrollment.course.number),
        "course_section_id": global_id(enrollment.section.number),
        "course_uuid": enrollment.course.uuid,
        "user_id": global_id(enrollment.person.number),
        "user_name": enrollment.person.name,
        "user_uuid": enrollment.person.uuid,
        "associated_user_id": None,
        "type": enrollment.type,
        "limit_privileges_to_course_section": False,
        "created_at": seconds(enrollment.created_at),
        "updated_at": seconds(now),
        "workflow_state": enrollment.state,
    }


def enrollment_state(enrollment: Enrollment, now: datetime) -> Body:
    """Of enrollment_state_created and enrollment_state_updated."""
    return {
        "enrollment_id": global_id(enrollment.number),
        "state": enrollment.state,
        "state_is_current": True,
        "state_started_at": millis(now),
        "state_valid_until": None,
        "access_is_current": True,
        "restricted_access": False,
    }


def migration(school: School, number: int, course: Course) -> Body:
    """Of content_migration_started and content_migration_completed."""
    source = course.source
    return {
        "content_migration_id": global_id(number),
        "context_id": global_id(course.number),
        "context_type": "Course",
        "context_uuid": course.uuid,
        "lti_context_id": course.lti_id,
        "destination_course_lti_id": course.lti_id,
        "source_course_lti_id": source.lti_id if source else None,
        "source_course_uuid": source.uuid if source else None,
        "migration_type": "course_copy_importer" if source else "common_cartridge_importer",
        "import_quizzes_next": False,
        "domain": school.hostname,
    }


def syllabus(course: Course, old: str | None, new: str) -> Body:
    """Of syllabus_updated."""
    return {
        "course_id": global_id(course.number),
        "old_syllabus_body": old,
        "syllabus_body": new,
    }


def module(module: Module) -> Body:
    """Of module_created and module_updated."""
    return {
        "module_id": local_id(module.number),
        "context_id": local_id(module.course.number),
        "context_type": "Course",
        "name": module.name,
        "position": module.position,
        "workflow_state": module.state,
    }


def item(item: Item) -> Body:
    """Of module_item_created and module_item_updated."""
    return {
        "module_item_id": local_id(item.number),
        "module_id": local_id(item.module.number),
        "context_id": local_id(item.module.course.number),
        "context_type": "Course",
        "position": item.position,
        "workflow_state": "active",
    }


def page(page: Page, before: Page | None = None) -> Body:
    """Of wiki_page_created, and with the page as it was before of wiki_page_updated."""
    body = {"wiki_page_id": global_id(page.number), "title": page.title, "body": page.body}
    if before is None:
        return body
    return {**body, "old_title": before.title, "old_body": before.body}


def page_gone(page: Page) -> Body:
    """Of wiki_page_deleted."""
    return {"wiki_page_id": global_id(page.number), "title": page.title}


def file(file: File, now: datetime) -> Body:
    """Of attachment_created, attachment_updated and attachment_deleted."""
    owner = file.owner if file.course is None else file.course
    return {
        "attachment_id": global_id(file.number),
        "context_id": global_id(owner.number),
        "context_type": "User" if file.course is None else "Course",
        "user_id": global_id(file.owner.number),
        "folder_id": global_id(file.folder),
        "display_name": file.name,
        "filename": file.name.replace(" ", "+"),
        "content_type": file.content_type,
        "lock_at": None,
        "unlock_at": None,
        "updated_at": seconds(now),
    }
