-- current_modules
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(e."module_id"::text) <= 13 and length(e."course_id") > 13 and e."module_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."module_id"::text, 13, '0') else e."module_id"::text end as "module_id", e."course_id"::text as "course_id", case when length(e."context_id"::text) <= 13 and length(e."course_id") > 13 and e."context_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."context_id"::text, 13, '0') else e."context_id"::text end as "context_id", e."context_type"::text as "context_type", e."name"::text as "name", e."position"::bigint as "position", e."workflow_state"::text as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."module_created" as e
where e."module_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", case when length(e."module_id"::text) <= 13 and length(e."course_id") > 13 and e."module_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."module_id"::text, 13, '0') else e."module_id"::text end as "module_id", e."course_id"::text as "course_id", case when length(e."context_id"::text) <= 13 and length(e."course_id") > 13 and e."context_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."context_id"::text, 13, '0') else e."context_id"::text end as "context_id", e."context_type"::text as "context_type", e."name"::text as "name", e."position"::bigint as "position", e."workflow_state"::text as "workflow_state", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 1 as forebay_source
from "canvas"."module_updated" as e
where e."module_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."module_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id collate "C") as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."module_id" as "module_id",
  (array_agg(r."course_id" order by r.forebay_nth desc) filter (where r."course_id" is not null))[1] as "course_id",
  (array_agg(r."context_id" order by r.forebay_nth desc))[1] as "context_id",
  (array_agg(r."context_type" order by r.forebay_nth desc))[1] as "context_type",
  (array_agg(r."name" order by r.forebay_nth desc))[1] as "name",
  (array_agg(r."position" order by r.forebay_nth desc))[1] as "position",
  (array_agg(r."workflow_state" order by r.forebay_nth desc))[1] as "workflow_state",
  coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) as "is_deleted",
  case when coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) then (array_agg(r.event_time order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1] end as "deleted_at",
  (array_agg(r.event_time order by r.forebay_nth desc))[1] as "last_event_time",
  (array_agg(r.event_id order by r.forebay_nth desc))[1] as "last_event_id"
from ranked as r
group by r."tenant", r."module_id";

-- current_pages
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."wiki_page_id"::text as "wiki_page_id", e."course_id"::text as "course_id", e."body"::text as "body", e."title"::text as "title", false as forebay_deleted, 0 as forebay_source
from "canvas"."wiki_page_created" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."wiki_page_id"::text as "wiki_page_id", e."course_id"::text as "course_id", cast(null as text) as "body", e."title"::text as "title", true as forebay_deleted, 1 as forebay_source
from "canvas"."wiki_page_deleted" as e
where e."wiki_page_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."wiki_page_id"::text as "wiki_page_id", e."course_id"::text as "course_id", e."body"::text as "body", e."title"::text as "title", false as forebay_deleted, 2 as forebay_source
from "canvas"."wiki_page_updated" as e
where e."wiki_page_id" <> ''
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."wiki_page_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id collate "C") as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."wiki_page_id" as "wiki_page_id",
  (array_agg(r."course_id" order by r.forebay_nth desc) filter (where r."course_id" is not null))[1] as "course_id",
  (array_agg(r."body" order by r.forebay_nth desc) filter (where r.forebay_source in (0, 2) or r."body" is not null))[1] as "body",
  (array_agg(r."title" order by r.forebay_nth desc) filter (where r.forebay_source in (0, 2) or r."title" is not null))[1] as "title",
  coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) as "is_deleted",
  case when coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) then (array_agg(r.event_time order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1] end as "deleted_at",
  (array_agg(r.event_time order by r.forebay_nth desc))[1] as "last_event_time",
  (array_agg(r.event_id order by r.forebay_nth desc))[1] as "last_event_id"
from ranked as r
group by r."tenant", r."wiki_page_id";

-- current_grades
with told as (
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."course_id"::text as "course_id", case when length(e."user_id"::text) <= 13 and length(e."course_id") > 13 and e."user_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."user_id"::text, 13, '0') else e."user_id"::text end as "user_id", e."created_at"::timestamptz as "created_at", e."current_score"::double precision as "current_score", e."final_score"::double precision as "final_score", e."unposted_current_score"::double precision as "unposted_current_score", e."unposted_final_score"::double precision as "unposted_final_score", e."updated_at"::timestamptz as "updated_at", e."workflow_state"::text as "workflow_state", cast(null as text) as "enrollment_id", cast(null as double precision) as "override_score", cast(null as text) as "score_id", cast(null as text) as "override_status", cast(null as text) as "override_status_id", coalesce(e."workflow_state" = 'deleted', false) as forebay_deleted, 0 as forebay_source
from "canvas"."course_grade_change" as e
where e."course_id" <> '' and e."user_id" <> ''
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."course_id"::text as "course_id", case when length(e."user_id"::text) <= 13 and length(e."course_id") > 13 and e."user_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."user_id"::text, 13, '0') else e."user_id"::text end as "user_id", cast(null as timestamptz) as "created_at", cast(null as double precision) as "current_score", cast(null as double precision) as "final_score", cast(null as double precision) as "unposted_current_score", cast(null as double precision) as "unposted_final_score", e."updated_at"::timestamptz as "updated_at", cast(null as text) as "workflow_state", case when length(e."enrollment_id"::text) <= 13 and length(e."course_id") > 13 and e."enrollment_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."enrollment_id"::text, 13, '0') else e."enrollment_id"::text end as "enrollment_id", e."override_score"::double precision as "override_score", case when length(e."score_id"::text) <= 13 and length(e."course_id") > 13 and e."score_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."score_id"::text, 13, '0') else e."score_id"::text end as "score_id", cast(null as text) as "override_status", cast(null as text) as "override_status_id", cast(null as boolean) as forebay_deleted, 1 as forebay_source
from "canvas"."grade_override" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
union all
select e.event_id as event_id, e.event_time as event_time, e."tenant" as "tenant", e."course_id"::text as "course_id", case when length(e."user_id"::text) <= 13 and length(e."course_id") > 13 and e."user_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."user_id"::text, 13, '0') else e."user_id"::text end as "user_id", cast(null as timestamptz) as "created_at", cast(null as double precision) as "current_score", cast(null as double precision) as "final_score", cast(null as double precision) as "unposted_current_score", cast(null as double precision) as "unposted_final_score", e."updated_at"::timestamptz as "updated_at", cast(null as text) as "workflow_state", case when length(e."enrollment_id"::text) <= 13 and length(e."course_id") > 13 and e."enrollment_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."enrollment_id"::text, 13, '0') else e."enrollment_id"::text end as "enrollment_id", cast(null as double precision) as "override_score", case when length(e."score_id"::text) <= 13 and length(e."course_id") > 13 and e."score_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."score_id"::text, 13, '0') else e."score_id"::text end as "score_id", e."override_status"::text as "override_status", case when length(e."override_status_id"::text) <= 13 and length(e."course_id") > 13 and e."override_status_id"::text ~ '^[0-9]+$' and e."course_id" ~ '^[0-9]+$' then left(e."course_id", length(e."course_id") - 13) || lpad(e."override_status_id"::text, 13, '0') else e."override_status_id"::text end as "override_status_id", cast(null as boolean) as forebay_deleted, 2 as forebay_source
from "canvas"."final_grade_custom_status" as e
where e."course_id" <> '' and e."user_id" <> '' and e."grading_period_id" is null
), ranked as (
select t.*, row_number() over (partition by t."tenant", t."course_id", t."user_id" order by coalesce(t.event_time, to_timestamp(0)), t.event_id collate "C") as forebay_nth
from told as t
)
select
  r."tenant" as "tenant",
  r."course_id" as "course_id",
  r."user_id" as "user_id",
  (array_agg(r."created_at" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."created_at" is not null))[1] as "created_at",
  (array_agg(r."current_score" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."current_score" is not null))[1] as "current_score",
  (array_agg(r."final_score" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."final_score" is not null))[1] as "final_score",
  (array_agg(r."unposted_current_score" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."unposted_current_score" is not null))[1] as "unposted_current_score",
  (array_agg(r."unposted_final_score" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."unposted_final_score" is not null))[1] as "unposted_final_score",
  (array_agg(r."updated_at" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."updated_at" is not null))[1] as "updated_at",
  (array_agg(r."workflow_state" order by r.forebay_nth desc) filter (where r.forebay_source in (0) or r."workflow_state" is not null))[1] as "workflow_state",
  (array_agg(r."enrollment_id" order by r.forebay_nth desc) filter (where r."enrollment_id" is not null))[1] as "enrollment_id",
  (array_agg(r."override_score" order by r.forebay_nth desc) filter (where r."override_score" is not null))[1] as "override_score",
  (array_agg(r."score_id" order by r.forebay_nth desc) filter (where r."score_id" is not null))[1] as "score_id",
  (array_agg(r."override_status" order by r.forebay_nth desc) filter (where r."override_status" is not null))[1] as "override_status",
  (array_agg(r."override_status_id" order by r.forebay_nth desc) filter (where r."override_status_id" is not null))[1] as "override_status_id",
  coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) as "is_deleted",
  case when coalesce((array_agg(r.forebay_deleted order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1], false) then (array_agg(r.event_time order by r.forebay_nth desc) filter (where r.forebay_deleted is not null))[1] end as "deleted_at",
  (array_agg(r.event_time order by r.forebay_nth desc))[1] as "last_event_time",
  (array_agg(r.event_id order by r.forebay_nth desc))[1] as "last_event_id"
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
  e."assignment_id"::text as "assignment_id",
  e."grade"::text as "grade",
  e."grader_id"::text as "grader_id",
  e."points_possible"::double precision as "points_possible",
  e."score"::double precision as "score",
  e."student_id"::text as "student_id",
  e."student_sis_id"::text as "student_sis_id",
  e."submission_id"::text as "submission_id",
  e."user_id"::text as "user_id"
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
  substring(jsonb_extract_path_text(e."object", 'assignable', 'id') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "assignment_id",
  jsonb_extract_path_text(e."generated", 'extensions', 'com.instructure.canvas', 'grade') as "grade",
  substring(jsonb_extract_path_text(e."generated", 'scoredBy') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "grader_id",
  case when pg_input_is_valid(jsonb_extract_path_text(e."generated", 'maxScore'), 'double precision') then (jsonb_extract_path_text(e."generated", 'maxScore'))::double precision end as "points_possible",
  case when pg_input_is_valid(jsonb_extract_path_text(e."generated", 'scoreGiven'), 'double precision') then (jsonb_extract_path_text(e."generated", 'scoreGiven'))::double precision end as "score",
  substring(jsonb_extract_path_text(e."object", 'assignee', 'id') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "student_id",
  jsonb_extract_path_text(e."object", 'assignee', 'extensions', 'com.instructure.canvas', 'sis_id') as "student_sis_id",
  substring(jsonb_extract_path_text(e."object", 'id') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "submission_id",
  substring(jsonb_extract_path_text(e."object", 'assignee', 'id') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "user_id"
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
  e."access_is_current"::boolean as "access_is_current",
  e."enrollment_id"::text as "enrollment_id",
  e."restricted_access"::boolean as "restricted_access",
  e."state"::text as "state",
  e."state_is_current"::boolean as "state_is_current",
  e."state_started_at"::timestamptz as "state_started_at",
  e."state_valid_until"::timestamptz as "state_valid_until"
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
  case when pg_input_is_valid(jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'access_is_current'), 'boolean') then (jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'access_is_current'))::boolean end as "access_is_current",
  substring(jsonb_extract_path_text(e."object", 'id') from '^(?:urn:instructure:canvas:.*:)?([0-9]+)$') as "enrollment_id",
  case when pg_input_is_valid(jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'restricted_access'), 'boolean') then (jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'restricted_access'))::boolean end as "restricted_access",
  jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'state') as "state",
  case when pg_input_is_valid(jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'state_is_current'), 'boolean') then (jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'state_is_current'))::boolean end as "state_is_current",
  case when pg_input_is_valid(jsonb_extract_path_text(e."object", 'startedAtTime'), 'timestamptz') then (jsonb_extract_path_text(e."object", 'startedAtTime'))::timestamptz end as "state_started_at",
  case when pg_input_is_valid(jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'state_valid_until'), 'timestamptz') then (jsonb_extract_path_text(e."object", 'extensions', 'com.instructure.canvas', 'state_valid_until'))::timestamptz end as "state_valid_until"
from "canvas"."enrollment_state_updated__caliper" as e;
