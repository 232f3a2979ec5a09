-- current_modules
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(accurateCastOrNull(e."module_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."module_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."module_id", 'String'), 13, '0') else accurateCastOrNull(e."module_id", 'String') end as "module_id", accurateCastOrNull(e."course_id", 'String') as "course_id", case when length(accurateCastOrNull(e."context_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."context_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."context_id", 'String'), 13, '0') else accurateCastOrNull(e."context_id", 'String') end as "context_id", accurateCastOrNull(e."context_type", 'String') as "context_type", accurateCastOrNull(e."name", 'String') as "name", accurateCastOrNull(e."position", 'Int64') as "position", accurateCastOrNull(e."workflow_state", 'String') as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."module_created" as e
where e."module_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(accurateCastOrNull(e."module_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."module_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."module_id", 'String'), 13, '0') else accurateCastOrNull(e."module_id", 'String') end as "module_id", accurateCastOrNull(e."course_id", 'String') as "course_id", case when length(accurateCastOrNull(e."context_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."context_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."context_id", 'String'), 13, '0') else accurateCastOrNull(e."context_id", 'String') end as "context_id", accurateCastOrNull(e."context_type", 'String') as "context_type", accurateCastOrNull(e."name", 'String') as "name", accurateCastOrNull(e."position", 'Int64') as "position", accurateCastOrNull(e."workflow_state", 'String') as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 1 as forebay_source
from "canvas"."module_updated" as e
where e."module_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."module_id" order by coalesce(t.event_time, toDateTime64(0, 6, 'UTC')), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."module_id" as "module_id",
  tupleElement(argMaxIf(tuple(r."course_id"), r.forebay_nth, r."course_id" is not null), 1) as "course_id",
  tupleElement(argMax(tuple(r."context_id"), r.forebay_nth), 1) as "context_id",
  tupleElement(argMax(tuple(r."context_type"), r.forebay_nth), 1) as "context_type",
  tupleElement(argMax(tuple(r."name"), r.forebay_nth), 1) as "name",
  tupleElement(argMax(tuple(r."position"), r.forebay_nth), 1) as "position",
  tupleElement(argMax(tuple(r."workflow_state"), r.forebay_nth), 1) as "workflow_state",
  coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) as "is_deleted",
  case when coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) then tupleElement(argMaxIf(tuple(r.event_time), r.forebay_nth, r.forebay_deleted is not null), 1) end as "deleted_at",
  tupleElement(argMax(tuple(r.event_time), r.forebay_nth), 1) as "last_event_time",
  tupleElement(argMax(tuple(r.event_id), r.forebay_nth), 1) as "last_event_id"
from ranked as r
group by r."tenant", r."module_id";

-- current_pages
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."wiki_page_id", 'String') as "wiki_page_id", accurateCastOrNull(e."course_id", 'String') as "course_id", accurateCastOrNull(e."body", 'String') as "body", accurateCastOrNull(e."title", 'String') as "title", false as forebay_deleted, 0 as forebay_source
from "canvas"."wiki_page_created" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."wiki_page_id", 'String') as "wiki_page_id", accurateCastOrNull(e."course_id", 'String') as "course_id", cast(null as Nullable(String)) as "body", accurateCastOrNull(e."title", 'String') as "title", true as forebay_deleted, 1 as forebay_source
from "canvas"."wiki_page_deleted" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."wiki_page_id", 'String') as "wiki_page_id", accurateCastOrNull(e."course_id", 'String') as "course_id", accurateCastOrNull(e."body", 'String') as "body", accurateCastOrNull(e."title", 'String') as "title", false as forebay_deleted, 2 as forebay_source
from "canvas"."wiki_page_updated" as e
where e."wiki_page_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."wiki_page_id" order by coalesce(t.event_time, toDateTime64(0, 6, 'UTC')), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."wiki_page_id" as "wiki_page_id",
  tupleElement(argMaxIf(tuple(r."course_id"), r.forebay_nth, r."course_id" is not null), 1) as "course_id",
  tupleElement(argMaxIf(tuple(r."body"), r.forebay_nth, r.forebay_source in (0, 2) or r."body" is not null), 1) as "body",
  tupleElement(argMaxIf(tuple(r."title"), r.forebay_nth, r.forebay_source in (0, 2) or r."title" is not null), 1) as "title",
  coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) as "is_deleted",
  case when coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) then tupleElement(argMaxIf(tuple(r.event_time), r.forebay_nth, r.forebay_deleted is not null), 1) end as "deleted_at",
  tupleElement(argMax(tuple(r.event_time), r.forebay_nth), 1) as "last_event_time",
  tupleElement(argMax(tuple(r.event_id), r.forebay_nth), 1) as "last_event_id"
from ranked as r
group by r."tenant", r."wiki_page_id";

-- current_grades
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."course_id", 'String') as "course_id", case when length(accurateCastOrNull(e."user_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."user_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."user_id", 'String'), 13, '0') else accurateCastOrNull(e."user_id", 'String') end as "user_id", accurateCastOrNull(e."created_at", 'DateTime64(6, ''UTC'')') as "created_at", accurateCastOrNull(e."current_score", 'Float64') as "current_score", accurateCastOrNull(e."final_score", 'Float64') as "final_score", accurateCastOrNull(e."unposted_current_score", 'Float64') as "unposted_current_score", accurateCastOrNull(e."unposted_final_score", 'Float64') as "unposted_final_score", accurateCastOrNull(e."updated_at", 'DateTime64(6, ''UTC'')') as "updated_at", accurateCastOrNull(e."workflow_state", 'String') as "workflow_state", cast(null as Nullable(String)) as "enrollment_id", cast(null as Nullable(Float64)) as "override_score", cast(null as Nullable(String)) as "score_id", cast(null as Nullable(String)) as "override_status", cast(null as Nullable(String)) as "override_status_id", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."course_grade_change" as e
where e."course_id" <> '' and e."user_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."course_id", 'String') as "course_id", case when length(accurateCastOrNull(e."user_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."user_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."user_id", 'String'), 13, '0') else accurateCastOrNull(e."user_id", 'String') end as "user_id", cast(null as Nullable(DateTime64(6, 'UTC'))) as "created_at", cast(null as Nullable(Float64)) as "current_score", cast(null as Nullable(Float64)) as "final_score", cast(null as Nullable(Float64)) as "unposted_current_score", cast(null as Nullable(Float64)) as "unposted_final_score", accurateCastOrNull(e."updated_at", 'DateTime64(6, ''UTC'')') as "updated_at", cast(null as Nullable(String)) as "workflow_state", case when length(accurateCastOrNull(e."enrollment_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."enrollment_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."enrollment_id", 'String'), 13, '0') else accurateCastOrNull(e."enrollment_id", 'String') end as "enrollment_id", accurateCastOrNull(e."override_score", 'Float64') as "override_score", case when length(accurateCastOrNull(e."score_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."score_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."score_id", 'String'), 13, '0') else accurateCastOrNull(e."score_id", 'String') end as "score_id", cast(null as Nullable(String)) as "override_status", cast(null as Nullable(String)) as "override_status_id", cast(null as Nullable(Bool)) as forebay_deleted, 1 as forebay_source
from "canvas"."grade_override" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", accurateCastOrNull(e."course_id", 'String') as "course_id", case when length(accurateCastOrNull(e."user_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."user_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."user_id", 'String'), 13, '0') else accurateCastOrNull(e."user_id", 'String') end as "user_id", cast(null as Nullable(DateTime64(6, 'UTC'))) as "created_at", cast(null as Nullable(Float64)) as "current_score", cast(null as Nullable(Float64)) as "final_score", cast(null as Nullable(Float64)) as "unposted_current_score", cast(null as Nullable(Float64)) as "unposted_final_score", accurateCastOrNull(e."updated_at", 'DateTime64(6, ''UTC'')') as "updated_at", cast(null as Nullable(String)) as "workflow_state", case when length(accurateCastOrNull(e."enrollment_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."enrollment_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."enrollment_id", 'String'), 13, '0') else accurateCastOrNull(e."enrollment_id", 'String') end as "enrollment_id", cast(null as Nullable(Float64)) as "override_score", case when length(accurateCastOrNull(e."score_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."score_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."score_id", 'String'), 13, '0') else accurateCastOrNull(e."score_id", 'String') end as "score_id", accurateCastOrNull(e."override_status", 'String') as "override_status", case when length(accurateCastOrNull(e."override_status_id", 'String')) <= 13 and length(e."course_id") > 13 and match(accurateCastOrNull(e."override_status_id", 'String'), '^[0-9]+$') and match(e."course_id", '^[0-9]+$') then left(e."course_id", length(e."course_id") - 13) || lpad(accurateCastOrNull(e."override_status_id", 'String'), 13, '0') else accurateCastOrNull(e."override_status_id", 'String') end as "override_status_id", cast(null as Nullable(Bool)) as forebay_deleted, 2 as forebay_source
from "canvas"."final_grade_custom_status" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."course_id", t."user_id" order by coalesce(t.event_time, toDateTime64(0, 6, 'UTC')), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."course_id" as "course_id",
  r."user_id" as "user_id",
  tupleElement(argMaxIf(tuple(r."created_at"), r.forebay_nth, r.forebay_source in (0) or r."created_at" is not null), 1) as "created_at",
  tupleElement(argMaxIf(tuple(r."current_score"), r.forebay_nth, r.forebay_source in (0) or r."current_score" is not null), 1) as "current_score",
  tupleElement(argMaxIf(tuple(r."final_score"), r.forebay_nth, r.forebay_source in (0) or r."final_score" is not null), 1) as "final_score",
  tupleElement(argMaxIf(tuple(r."unposted_current_score"), r.forebay_nth, r.forebay_source in (0) or r."unposted_current_score" is not null), 1) as "unposted_current_score",
  tupleElement(argMaxIf(tuple(r."unposted_final_score"), r.forebay_nth, r.forebay_source in (0) or r."unposted_final_score" is not null), 1) as "unposted_final_score",
  tupleElement(argMaxIf(tuple(r."updated_at"), r.forebay_nth, r.forebay_source in (0) or r."updated_at" is not null), 1) as "updated_at",
  tupleElement(argMaxIf(tuple(r."workflow_state"), r.forebay_nth, r.forebay_source in (0) or r."workflow_state" is not null), 1) as "workflow_state",
  tupleElement(argMaxIf(tuple(r."enrollment_id"), r.forebay_nth, r."enrollment_id" is not null), 1) as "enrollment_id",
  tupleElement(argMaxIf(tuple(r."override_score"), r.forebay_nth, r."override_score" is not null), 1) as "override_score",
  tupleElement(argMaxIf(tuple(r."score_id"), r.forebay_nth, r."score_id" is not null), 1) as "score_id",
  tupleElement(argMaxIf(tuple(r."override_status"), r.forebay_nth, r."override_status" is not null), 1) as "override_status",
  tupleElement(argMaxIf(tuple(r."override_status_id"), r.forebay_nth, r."override_status_id" is not null), 1) as "override_status_id",
  coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) as "is_deleted",
  case when coalesce(tupleElement(argMaxIf(tuple(r.forebay_deleted), r.forebay_nth, r.forebay_deleted is not null), 1), false) then tupleElement(argMaxIf(tuple(r.event_time), r.forebay_nth, r.forebay_deleted is not null), 1) end as "deleted_at",
  tupleElement(argMax(tuple(r.event_time), r.forebay_nth), 1) as "last_event_time",
  tupleElement(argMax(tuple(r.event_id), r.forebay_nth), 1) as "last_event_id"
from ranked as r
group by r."tenant", r."course_id", r."user_id";

-- course_copies_by_course
select
  c."event_id" as "event_id",
  c."event_time" as "event_time",
  c."received_at" as "received_at",
  c."tenant" as "tenant",
  c."issuer" as "issuer",
  c."client_id" as "client_id",
  c."deployment_id" as "deployment_id",
  c."context_id" as "context_id",
  c."context_label" as "context_label",
  c."context_title" as "context_title",
  c."origin_context_id" as "origin_context_id",
  c."origin_context_ids" as "origin_context_ids",
  o.course_id as origin_course_id,
  n.course_id as course_id
from "canvas"."course_copies" as c
left join "canvas"."lti_contexts" as o on o.tenant = c.tenant and o.lti_context_id = c.origin_context_id
left join "canvas"."lti_contexts" as n on n.tenant = c.tenant and n.lti_context_id = c.context_id;

-- all_grade_change
select
  e."event_id" as "event_id",
  e."event_time" as "event_time",
  e."received_at" as "received_at",
  e."tenant" as "tenant",
  e."format" as "format",
  e."trigger" as "trigger",
  e."actor_id" as "actor_id",
  e."actor_login" as "actor_login",
  e."context_type" as "context_type",
  e."context_id" as "context_id",
  e."course_id" as "course_id",
  accurateCastOrNull(e."assignment_id", 'String') as "assignment_id",
  accurateCastOrNull(e."grade", 'String') as "grade",
  accurateCastOrNull(e."grader_id", 'String') as "grader_id",
  accurateCastOrNull(e."points_possible", 'Float64') as "points_possible",
  accurateCastOrNull(e."score", 'Float64') as "score",
  accurateCastOrNull(e."student_id", 'String') as "student_id",
  accurateCastOrNull(e."student_sis_id", 'String') as "student_sis_id",
  accurateCastOrNull(e."submission_id", 'String') as "submission_id",
  accurateCastOrNull(e."user_id", 'String') as "user_id"
from "canvas"."grade_change" as e
union all
select
  e."event_id" as "event_id",
  e."event_time" as "event_time",
  e."received_at" as "received_at",
  e."tenant" as "tenant",
  e."format" as "format",
  e."trigger" as "trigger",
  e."actor_id" as "actor_id",
  e."actor_login" as "actor_login",
  e."context_type" as "context_type",
  e."context_id" as "context_id",
  e."course_id" as "course_id",
  nullIf(extract(JSONExtract(e."object", 'assignable', 'id', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "assignment_id",
  JSONExtract(e."generated", 'extensions', 'com.instructure.canvas', 'grade', 'Nullable(String)') as "grade",
  nullIf(extract(JSONExtract(e."generated", 'scoredBy', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "grader_id",
  JSONExtract(e."generated", 'maxScore', 'Nullable(Float64)') as "points_possible",
  JSONExtract(e."generated", 'scoreGiven', 'Nullable(Float64)') as "score",
  nullIf(extract(JSONExtract(e."object", 'assignee', 'id', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "student_id",
  JSONExtract(e."object", 'assignee', 'extensions', 'com.instructure.canvas', 'sis_id', 'Nullable(String)') as "student_sis_id",
  nullIf(extract(JSONExtract(e."object", 'id', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "submission_id",
  nullIf(extract(JSONExtract(e."object", 'assignee', 'id', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "user_id"
from "canvas"."grade_change__caliper" as e;

-- all_enrollment_state_updated
select
  e."event_id" as "event_id",
  e."event_time" as "event_time",
  e."received_at" as "received_at",
  e."tenant" as "tenant",
  e."format" as "format",
  e."trigger" as "trigger",
  e."actor_id" as "actor_id",
  e."actor_login" as "actor_login",
  e."context_type" as "context_type",
  e."context_id" as "context_id",
  e."course_id" as "course_id",
  accurateCastOrNull(e."access_is_current", 'Bool') as "access_is_current",
  accurateCastOrNull(e."enrollment_id", 'String') as "enrollment_id",
  accurateCastOrNull(e."restricted_access", 'Bool') as "restricted_access",
  accurateCastOrNull(e."state", 'String') as "state",
  accurateCastOrNull(e."state_is_current", 'Bool') as "state_is_current",
  accurateCastOrNull(e."state_started_at", 'DateTime64(6, ''UTC'')') as "state_started_at",
  accurateCastOrNull(e."state_valid_until", 'DateTime64(6, ''UTC'')') as "state_valid_until"
from "canvas"."enrollment_state_updated" as e
union all
select
  e."event_id" as "event_id",
  e."event_time" as "event_time",
  e."received_at" as "received_at",
  e."tenant" as "tenant",
  e."format" as "format",
  e."trigger" as "trigger",
  e."actor_id" as "actor_id",
  e."actor_login" as "actor_login",
  e."context_type" as "context_type",
  e."context_id" as "context_id",
  e."course_id" as "course_id",
  JSONExtract(e."object", 'extensions', 'com.instructure.canvas', 'access_is_current', 'Nullable(Bool)') as "access_is_current",
  nullIf(extract(JSONExtract(e."object", 'id', 'Nullable(String)'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$'), '') as "enrollment_id",
  JSONExtract(e."object", 'extensions', 'com.instructure.canvas', 'restricted_access', 'Nullable(Bool)') as "restricted_access",
  JSONExtract(e."object", 'extensions', 'com.instructure.canvas', 'state', 'Nullable(String)') as "state",
  JSONExtract(e."object", 'extensions', 'com.instructure.canvas', 'state_is_current', 'Nullable(Bool)') as "state_is_current",
  parseDateTime64BestEffortOrNull(JSONExtract(e."object", 'startedAtTime', 'Nullable(String)'), 6, 'UTC') as "state_started_at",
  parseDateTime64BestEffortOrNull(JSONExtract(e."object", 'extensions', 'com.instructure.canvas', 'state_valid_until', 'Nullable(String)'), 6, 'UTC') as "state_valid_until"
from "canvas"."enrollment_state_updated__caliper" as e;
