"""A school as its events alone tell of it, which finds what does not go together.

Knows nothing of how the story is made: only Canvas's fields, and which of them names what.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tests.emulator.messages import LiveEvent, Notice

_ON_SHARD = 10**13
_ID = re.compile(r"(^|_)id$")

CREATES: Final = {
    "account_created": "account_id",
    "assignment_created": "assignment_id",
    "assignment_group_created": "assignment_group_id",
    "assignment_override_created": "assignment_override_id",
    "attachment_created": "attachment_id",
    "content_migration_started": "content_migration_id",
    "course_created": "course_id",
    "course_section_created": "course_section_id",
    "discussion_entry_created": "discussion_entry_id",
    "discussion_topic_created": "discussion_topic_id",
    "enrollment_created": "enrollment_id",
    "group_category_created": "group_category_id",
    "group_created": "group_id",
    "group_membership_created": "group_membership_id",
    "module_created": "module_id",
    "module_item_created": "module_item_id",
    "quiz_created": "quiz_id",
    "submission_comment_created": "submission_comment_id",
    "user_created": "user_id",
    "wiki_page_created": "wiki_page_id",
}
"""The field that names what an event of the type tells of first."""

_SAME = {
    "student_id": "user_id",
    "grader_id": "user_id",
    "author_id": "user_id",
    "section_id": "course_section_id",
    "parent_discussion_entry_id": "discussion_entry_id",
    "parent_account_id": "account_id",
}
_NOT_TOLD_OF = re.compile(r"lti|link_id|sis|folder_id|term_id|integration_id|duplicated|^root_")
_CONTEXTS = {"Course": "course_id", "Account": "account_id", "User": "user_id"}
_ASSETS = {
    "course": "course_id",
    "wiki_page": "wiki_page_id",
    "attachment": "attachment_id",
    "assignment": "assignment_id",
    "discussion_topic": "discussion_topic_id",
}
_GONE = {"wiki_page_deleted", "attachment_deleted", "discussion_entry_deleted"}


def number(text: str) -> int:
    """The id within its shard, in whichever form it is written."""
    return int(text) % _ON_SHARD


def _may_be_gone(name: str, member: str, body: Mapping[str, Any]) -> bool:
    """A state follows its enrollment, and replies stay when what they answer is taken away."""
    reply = member == "parent_discussion_entry_id" and name != "discussion_entry_created"
    return reply or body.get("state") == "deleted"


@dataclass(slots=True)
class Model:
    """What was told so far. `faults` are sentences; there should be none."""

    known: set[tuple[str, int]] = field(default_factory=set)
    gone: set[tuple[str, int]] = field(default_factory=set)
    roles: dict[tuple[int, int], str] = field(default_factory=dict)
    sections: dict[tuple[int, int], int] = field(default_factory=dict)
    assignments: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    overrides: dict[tuple[int, int], str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    submitted: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    scores: dict[int, float | None] = field(default_factory=dict)
    lti: dict[str, int] = field(default_factory=dict)
    uuids: dict[str, int] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    by_user: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    faults: list[str] = field(default_factory=list)

    def read(self, told: LiveEvent | Notice) -> None:
        """One more event or notice, in Canvas's own format."""
        if isinstance(told, Notice):
            if told.name == "LtiContextCopyNotice":
                self._copied(told.claims)
            return
        metadata, body = told.claims["metadata"], told.claims["body"]
        self._ids(told.name, body)
        self._cause(told.name, metadata)
        self.counts[told.name] += 1
        judge = getattr(self, f"_{told.name}", None)
        if judge is not None:
            judge(body)

    def _fault(self, sentence: str) -> None:
        self.faults.append(sentence)

    def _ids(self, name: str, body: Mapping[str, Any]) -> None:
        created = CREATES.get(name)
        for member, value in body.items():
            if value is None or not _ID.search(member) or _NOT_TOLD_OF.search(member):
                continue
            kind = self._kind(member, body)
            thing = (kind, number(value))
            if member == created or (
                name == "submission_created" and body["attempt"] == 1 and member == "submission_id"
            ):
                if thing in self.known:
                    self._fault(f"{name}: {thing} is there already")
                self.known.add(thing)
            elif kind == "account_id" and member == "parent_account_id":
                continue  # the root account, which nothing creates
            elif thing not in self.known:
                self._fault(f"{name}: {member} {value} is nothing that was told of")
            elif thing in self.gone and not _may_be_gone(name, member, body):
                self._fault(f"{name}: {member} {value} is deleted")
        if name in _GONE or body.get("workflow_state") == "deleted":
            key = next(member for member in body if member in CREATES.values())
            self.gone.add((key, number(body[key])))

    def _kind(self, member: str, body: Mapping[str, Any]) -> str:
        if member == "context_id":
            return _CONTEXTS[body["context_type"]]
        if member == "asset_id":
            return _ASSETS[body["asset_type"]]
        return _SAME.get(member, member)

    def _cause(self, name: str, metadata: Mapping[str, Any]) -> None:
        if (context := metadata.get("context_type")) is not None:
            thing = (_CONTEXTS[context], number(metadata["context_id"]))
            if thing not in self.known:
                self._fault(f"{name}: context {thing} is nothing that was told of")
        if "job_id" in metadata:
            return
        user = number(metadata["user_id"])
        self.by_user[user] += 1
        if ("user_id", user) not in self.known:
            self._fault(f"{name}: actor {user} is nobody")
        if name == "logged_in":
            self.sessions.add(metadata["session_id"])
        elif metadata["session_id"] not in self.sessions:
            self._fault(f"{name}: {metadata['user_login']} did not log in")
        if context == "Course":
            role = self.roles.get((user, number(metadata["context_id"])))
            if role != metadata["context_role"]:
                self._fault(f"{name}: {metadata['context_role']} is {role}")

    def _course_created(self, body: Mapping[str, Any]) -> None:
        self.uuids[body["uuid"]] = number(body["course_id"])

    def _enrollment_created(self, body: Mapping[str, Any]) -> None:
        where = (number(body["user_id"]), number(body["course_id"]))
        self.roles[where] = body["type"]
        self.sections[where] = number(body["course_section_id"])

    def _enrollment_updated(self, body: Mapping[str, Any]) -> None:
        if body["workflow_state"] == "deleted":
            del self.roles[number(body["user_id"]), number(body["course_id"])]

    def _assignment_created(self, body: Mapping[str, Any]) -> None:
        self.assignments[number(body["assignment_id"])] = body

    _assignment_updated = _assignment_created

    def _assignment_override_created(self, body: Mapping[str, Any]) -> None:
        key = (number(body["assignment_id"]), number(body["course_section_id"]))
        self.overrides[key] = body["due_at"]

    def _submission_created(self, body: Mapping[str, Any]) -> None:
        key, assignment = number(body["submission_id"]), number(body["assignment_id"])
        task = self.assignments[assignment]
        where = (number(body["user_id"]), number(task["context_id"]))
        if self.roles.get(where) != "StudentEnrollment":
            self._fault(f"submission_created: {where} is not enrolled")
        elif task["workflow_state"] != "published":
            self._fault("submission_created: to what students do not see")
        else:
            due = self.overrides.get((assignment, self.sections[where]), task["due_at"])
            on_time = body["submitted_at"] <= _utc(due)
            # whole seconds: at the very second it may be either
            if body["late"] == on_time and body["submitted_at"] != _utc(due):
                self._fault(f"submission_created: late is {body['late']}, due {due}")
        if body["attempt"] != self.attempts.get(key, 0) + 1:
            self._fault(f"submission_created: attempt {body['attempt']}")
        self.attempts[key] = body["attempt"]
        self.submitted[key] = body

    def _quiz_submitted(self, body: Mapping[str, Any]) -> None:
        attempt = self.submitted[number(body["submission_id"])]
        if attempt["submission_type"] != "online_quiz":
            self._fault("quiz_submitted: of no quiz")

    def _grade_change(self, body: Mapping[str, Any]) -> None:
        key = number(body["submission_id"])
        submission = self.submitted.get(key)
        if submission is None or submission["user_id"] != body["user_id"]:
            self._fault(f"grade_change: submission {key} of {body['user_id']} came from nobody")
            return
        task = self.assignments[number(body["assignment_id"])]
        by = None if body["grader_id"] is None else number(body["grader_id"])
        if by is None:
            if submission["submission_type"] != "online_quiz":
                self._fault("grade_change: nobody graded what is no quiz")
        elif self.roles.get((by, number(task["context_id"]))) not in (
            "TeacherEnrollment",
            "TaEnrollment",
        ):
            self._fault(f"grade_change: {by} does not teach there")
        if body["old_score"] != self.scores.get(key) or body["score"] == body["old_score"]:
            self._fault(f"grade_change: from {body['old_score']} to {body['score']}")
        self.scores[key] = body["score"]

    def _content_migration_completed(self, body: Mapping[str, Any]) -> None:
        if self.uuids.get(body["context_uuid"]) != number(body["context_id"]):
            self._fault("content_migration_completed: into another course")
        source, of = body["source_course_uuid"], body["source_course_lti_id"]
        if source is not None and self.uuids.get(source) != self.lti.get(of, -1):
            self._fault("content_migration_completed: from no course that we know")
        self.lti[body["lti_context_id"]] = number(body["context_id"])

    def _copied(self, claims: Mapping[str, Any]) -> None:
        prefix = "https://purl.imsglobal.org/spec/lti/claim/"
        contexts = [claims[f"{prefix}context"]["id"], *claims.get(f"{prefix}origin_contexts", ())]
        self.counts[f"copies from {len(contexts) - 1}"] += 1
        if not self.lti.keys() >= set(contexts):
            self._fault(f"LtiContextCopyNotice: {contexts} are not all known")


def _utc(text: str) -> str:
    at = datetime.fromisoformat(text)
    return (at - (at.utcoffset() or at - at)).strftime("%Y-%m-%dT%H:%M:%SZ")
