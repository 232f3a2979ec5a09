-- current_modules
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(try_cast(e."module_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."module_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."module_id" as varchar), 13, '0') else try_cast(e."module_id" as varchar) end as "module_id", try_cast(e."course_id" as varchar) as "course_id", case when length(try_cast(e."context_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."context_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."context_id" as varchar), 13, '0') else try_cast(e."context_id" as varchar) end as "context_id", try_cast(e."context_type" as varchar) as "context_type", try_cast(e."name" as varchar) as "name", try_cast(e."position" as bigint) as "position", try_cast(e."workflow_state" as varchar) as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."module_created" as e
where e."module_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(try_cast(e."module_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."module_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."module_id" as varchar), 13, '0') else try_cast(e."module_id" as varchar) end as "module_id", try_cast(e."course_id" as varchar) as "course_id", case when length(try_cast(e."context_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."context_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."context_id" as varchar), 13, '0') else try_cast(e."context_id" as varchar) end as "context_id", try_cast(e."context_type" as varchar) as "context_type", try_cast(e."name" as varchar) as "name", try_cast(e."position" as bigint) as "position", try_cast(e."workflow_state" as varchar) as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 1 as forebay_source
from "canvas"."module_updated" as e
where e."module_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."module_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."module_id" as "module_id",
  arg_max_null(r."course_id", r.forebay_nth) filter (where r."course_id" is not null) as "course_id",
  arg_max_null(r."context_id", r.forebay_nth) as "context_id",
  arg_max_null(r."context_type", r.forebay_nth) as "context_type",
  arg_max_null(r."name", r.forebay_nth) as "name",
  arg_max_null(r."position", r.forebay_nth) as "position",
  arg_max_null(r."workflow_state", r.forebay_nth) as "workflow_state",
  coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) as "is_deleted",
  case when coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) then arg_max_null(r.event_time, r.forebay_nth) filter (where r.forebay_deleted is not null) end as "deleted_at",
  arg_max_null(r.event_time, r.forebay_nth) as "last_event_time",
  arg_max_null(r.event_id, r.forebay_nth) as "last_event_id"
from ranked as r
group by r."tenant", r."module_id";

-- current_pages
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."wiki_page_id" as varchar) as "wiki_page_id", try_cast(e."course_id" as varchar) as "course_id", try_cast(e."body" as varchar) as "body", try_cast(e."title" as varchar) as "title", false as forebay_deleted, 0 as forebay_source
from "canvas"."wiki_page_created" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."wiki_page_id" as varchar) as "wiki_page_id", try_cast(e."course_id" as varchar) as "course_id", cast(null as varchar) as "body", try_cast(e."title" as varchar) as "title", true as forebay_deleted, 1 as forebay_source
from "canvas"."wiki_page_deleted" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."wiki_page_id" as varchar) as "wiki_page_id", try_cast(e."course_id" as varchar) as "course_id", try_cast(e."body" as varchar) as "body", try_cast(e."title" as varchar) as "title", false as forebay_deleted, 2 as forebay_source
from "canvas"."wiki_page_updated" as e
where e."wiki_page_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."wiki_page_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."wiki_page_id" as "wiki_page_id",
  arg_max_null(r."course_id", r.forebay_nth) filter (where r."course_id" is not null) as "course_id",
  arg_max_null(r."body", r.forebay_nth) filter (where r.forebay_source in (0, 2) or r."body" is not null) as "body",
  arg_max_null(r."title", r.forebay_nth) filter (where r.forebay_source in (0, 2) or r."title" is not null) as "title",
  coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) as "is_deleted",
  case when coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) then arg_max_null(r.event_time, r.forebay_nth) filter (where r.forebay_deleted is not null) end as "deleted_at",
  arg_max_null(r.event_time, r.forebay_nth) as "last_event_time",
  arg_max_null(r.event_id, r.forebay_nth) as "last_event_id"
from ranked as r
group by r."tenant", r."wiki_page_id";

-- current_grades
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."course_id" as varchar) as "course_id", case when length(try_cast(e."user_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."user_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."user_id" as varchar), 13, '0') else try_cast(e."user_id" as varchar) end as "user_id", try_cast(e."created_at" as timestamptz) as "created_at", try_cast(e."current_score" as double) as "current_score", try_cast(e."final_score" as double) as "final_score", try_cast(e."unposted_current_score" as double) as "unposted_current_score", try_cast(e."unposted_final_score" as double) as "unposted_final_score", try_cast(e."updated_at" as timestamptz) as "updated_at", try_cast(e."workflow_state" as varchar) as "workflow_state", cast(null as varchar) as "enrollment_id", cast(null as double) as "override_score", cast(null as varchar) as "score_id", cast(null as varchar) as "override_status", cast(null as varchar) as "override_status_id", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."course_grade_change" as e
where e."course_id" <> '' and e."user_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."course_id" as varchar) as "course_id", case when length(try_cast(e."user_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."user_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."user_id" as varchar), 13, '0') else try_cast(e."user_id" as varchar) end as "user_id", cast(null as timestamptz) as "created_at", cast(null as double) as "current_score", cast(null as double) as "final_score", cast(null as double) as "unposted_current_score", cast(null as double) as "unposted_final_score", try_cast(e."updated_at" as timestamptz) as "updated_at", cast(null as varchar) as "workflow_state", case when length(try_cast(e."enrollment_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."enrollment_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."enrollment_id" as varchar), 13, '0') else try_cast(e."enrollment_id" as varchar) end as "enrollment_id", try_cast(e."override_score" as double) as "override_score", case when length(try_cast(e."score_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."score_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."score_id" as varchar), 13, '0') else try_cast(e."score_id" as varchar) end as "score_id", cast(null as varchar) as "override_status", cast(null as varchar) as "override_status_id", cast(null as boolean) as forebay_deleted, 1 as forebay_source
from "canvas"."grade_override" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", try_cast(e."course_id" as varchar) as "course_id", case when length(try_cast(e."user_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."user_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."user_id" as varchar), 13, '0') else try_cast(e."user_id" as varchar) end as "user_id", cast(null as timestamptz) as "created_at", cast(null as double) as "current_score", cast(null as double) as "final_score", cast(null as double) as "unposted_current_score", cast(null as double) as "unposted_final_score", try_cast(e."updated_at" as timestamptz) as "updated_at", cast(null as varchar) as "workflow_state", case when length(try_cast(e."enrollment_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."enrollment_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."enrollment_id" as varchar), 13, '0') else try_cast(e."enrollment_id" as varchar) end as "enrollment_id", cast(null as double) as "override_score", case when length(try_cast(e."score_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."score_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."score_id" as varchar), 13, '0') else try_cast(e."score_id" as varchar) end as "score_id", try_cast(e."override_status" as varchar) as "override_status", case when length(try_cast(e."override_status_id" as varchar)) <= 13 and length(e."course_id") > 13 and regexp_full_match(try_cast(e."override_status_id" as varchar), '[0-9]+') and regexp_full_match(e."course_id", '[0-9]+') then left(e."course_id", length(e."course_id") - 13) || lpad(try_cast(e."override_status_id" as varchar), 13, '0') else try_cast(e."override_status_id" as varchar) end as "override_status_id", cast(null as boolean) as forebay_deleted, 2 as forebay_source
from "canvas"."final_grade_custom_status" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."course_id", t."user_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id) as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."course_id" as "course_id",
  r."user_id" as "user_id",
  arg_max_null(r."created_at", r.forebay_nth) filter (where r.forebay_source in (0) or r."created_at" is not null) as "created_at",
  arg_max_null(r."current_score", r.forebay_nth) filter (where r.forebay_source in (0) or r."current_score" is not null) as "current_score",
  arg_max_null(r."final_score", r.forebay_nth) filter (where r.forebay_source in (0) or r."final_score" is not null) as "final_score",
  arg_max_null(r."unposted_current_score", r.forebay_nth) filter (where r.forebay_source in (0) or r."unposted_current_score" is not null) as "unposted_current_score",
  arg_max_null(r."unposted_final_score", r.forebay_nth) filter (where r.forebay_source in (0) or r."unposted_final_score" is not null) as "unposted_final_score",
  arg_max_null(r."updated_at", r.forebay_nth) filter (where r.forebay_source in (0) or r."updated_at" is not null) as "updated_at",
  arg_max_null(r."workflow_state", r.forebay_nth) filter (where r.forebay_source in (0) or r."workflow_state" is not null) as "workflow_state",
  arg_max_null(r."enrollment_id", r.forebay_nth) filter (where r."enrollment_id" is not null) as "enrollment_id",
  arg_max_null(r."override_score", r.forebay_nth) filter (where r."override_score" is not null) as "override_score",
  arg_max_null(r."score_id", r.forebay_nth) filter (where r."score_id" is not null) as "score_id",
  arg_max_null(r."override_status", r.forebay_nth) filter (where r."override_status" is not null) as "override_status",
  arg_max_null(r."override_status_id", r.forebay_nth) filter (where r."override_status_id" is not null) as "override_status_id",
  coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) as "is_deleted",
  case when coalesce(arg_max_null(r.forebay_deleted, r.forebay_nth) filter (where r.forebay_deleted is not null), false) then arg_max_null(r.event_time, r.forebay_nth) filter (where r.forebay_deleted is not null) end as "deleted_at",
  arg_max_null(r.event_time, r.forebay_nth) as "last_event_time",
  arg_max_null(r.event_id, r.forebay_nth) as "last_event_id"
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
  try_cast(e."assignment_id" as varchar) as "assignment_id",
  try_cast(e."grade" as varchar) as "grade",
  try_cast(e."grader_id" as varchar) as "grader_id",
  try_cast(e."points_possible" as double) as "points_possible",
  try_cast(e."score" as double) as "score",
  try_cast(e."student_id" as varchar) as "student_id",
  try_cast(e."student_sis_id" as varchar) as "student_sis_id",
  try_cast(e."submission_id" as varchar) as "submission_id",
  try_cast(e."user_id" as varchar) as "user_id"
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
  nullif(regexp_extract(json_extract_string(e."object", '$."assignable"."id"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "assignment_id",
  json_extract_string(e."generated", '$."extensions"."com.instructure.canvas"."grade"') as "grade",
  nullif(regexp_extract(json_extract_string(e."generated", '$."scoredBy"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "grader_id",
  try_cast(json_extract_string(e."generated", '$."maxScore"') as double) as "points_possible",
  try_cast(json_extract_string(e."generated", '$."scoreGiven"') as double) as "score",
  nullif(regexp_extract(json_extract_string(e."object", '$."assignee"."id"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "student_id",
  json_extract_string(e."object", '$."assignee"."extensions"."com.instructure.canvas"."sis_id"') as "student_sis_id",
  nullif(regexp_extract(json_extract_string(e."object", '$."id"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "submission_id",
  nullif(regexp_extract(json_extract_string(e."object", '$."assignee"."id"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "user_id"
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
  try_cast(e."access_is_current" as boolean) as "access_is_current",
  try_cast(e."enrollment_id" as varchar) as "enrollment_id",
  try_cast(e."restricted_access" as boolean) as "restricted_access",
  try_cast(e."state" as varchar) as "state",
  try_cast(e."state_is_current" as boolean) as "state_is_current",
  try_cast(e."state_started_at" as timestamptz) as "state_started_at",
  try_cast(e."state_valid_until" as timestamptz) as "state_valid_until"
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
  try_cast(json_extract_string(e."object", '$."extensions"."com.instructure.canvas"."access_is_current"') as boolean) as "access_is_current",
  nullif(regexp_extract(json_extract_string(e."object", '$."id"'), '^(?:urn:instructure:canvas:.*:)?([0-9]+)$', 1), '') as "enrollment_id",
  try_cast(json_extract_string(e."object", '$."extensions"."com.instructure.canvas"."restricted_access"') as boolean) as "restricted_access",
  json_extract_string(e."object", '$."extensions"."com.instructure.canvas"."state"') as "state",
  try_cast(json_extract_string(e."object", '$."extensions"."com.instructure.canvas"."state_is_current"') as boolean) as "state_is_current",
  try_cast(json_extract_string(e."object", '$."startedAtTime"') as timestamptz) as "state_started_at",
  try_cast(json_extract_string(e."object", '$."extensions"."com.instructure.canvas"."state_valid_until"') as timestamptz) as "state_valid_until"
from "canvas"."enrollment_state_updated__caliper" as e;
