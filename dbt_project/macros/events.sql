{#
    Models of events are incremental, one partition a day, and rebuild whole days: those from the var `partition_start` to
    `partition_end` (both inclusive, ISO dates, UTC). Without the vars they rebuild today and the `late_days` + 1 days before it
    (one more than an event may be late, because a session that began the day before goes on past midnight), or everything when
    the table is new or dbt is told --full-refresh.

    The partition of day D holds the events that happened on D and were received from the day before D (a clock may be fast)
    to the end of D + late_days. That depends on the event alone, never on the days that a run was asked for, so a day that is
    built again, in whatever range, has the same rows.
#}

{# For the config `partitions`: the days to replace, as SQL. dbt takes no notice of it when it makes the table anew. #}
{% macro event_partitions() -%}
    {%- set days = [] -%}
    {%- set bounds = _given_days() -%}
    {%- if bounds -%}
        {%- for offset in range((bounds.last - bounds.first).days + 1) -%}
            {%- do days.append(_date(bounds.first + modules.datetime.timedelta(days=offset))) -%}
        {%- endfor -%}
    {%- else -%}
        {#- Not dates: dbt keeps a parsed config from one run to the next, and the next may be tomorrow's. -#}
        {%- for offset in range(var("late_days") + 2) -%}
            {%- do days.append(_day_from("current_date('UTC')", -offset)) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(days) }}
{%- endmacro %}

{#
    For the `where` of a model that reads landed events. It bounds the scan and leaves out what came too late; the days
    themselves are left to `first_received`, since copies of one event may stand on both sides of a midnight.
#}
{% macro event_window(occurred_at, received_at="received_at") -%}
    date_diff(date({{ received_at }}), date({{ occurred_at }}), day) between -1 and {{ var("late_days") }}
    and {{ received_around_event_days(received_at) }}
{%- endmacro %}

{# What may matter to the days to rebuild, by when it was received: from two days before them to `late_days` after. #}
{% macro received_around_event_days(received_at="received_at") -%}
    {%- set bounds = _event_days() -%}
    {%- if bounds -%}
        {%- set first = _day_from(bounds.first, -2) -%}
        {%- set last = _day_from(bounds.last, var("late_days") + 1) -%}
        {{ received_at }} >= timestamp({{ first }}) and {{ received_at }} < timestamp({{ last }})
    {%- else -%}
        {{ received_at }} is not null
    {%- endif -%}
{%- endmacro %}

{#
    For `landed_table`: the partitions that may hold such rows, of a table that is partitioned by when its rows were loaded, as
    Segment's are (https://segment.com/docs/connections/storage/catalog/bigquery/#partitioned-tables).

    A row is loaded on the day it was received or later. There is no last partition: after a backfill, or when the table was
    created again, the rows of every old day are in the partition of the day of that load. A row in the streaming buffer is in no
    partition yet.
#}
{% macro loaded_on_event_days() -%}
    {%- set bounds = _event_days() -%}
    {%- if bounds -%}
        _partitiontime >= timestamp({{ _day_from(bounds.first, -2) }}) or _partitiontime is null
    {%- endif -%}
{%- endmacro %}

{# For the `qualify` of such a model: of the copies of one event, the one received first, on one of the days to rebuild. #}
{% macro first_received(id, occurred_at, received_at="received_at") -%}
    row_number() over (partition by {{ id }} order by {{ received_at }}, {{ occurred_at }}) = 1
    and {{ on_event_days("date(" ~ occurred_at ~ ")") }}
{%- endmacro %}

{# For the `where` of a model or test that reads such a model: the days to rebuild, and a number of days around them. #}
{% macro on_event_days(day, before=0, after=0) -%}
    {%- set bounds = _event_days() -%}
    {%- if bounds -%}
        {{ day }} between {{ _day_from(bounds.first, -before) }} and {{ _day_from(bounds.last, after) }}
    {%- else -%}
        {{ day }} is not null
    {%- endif -%}
{%- endmacro %}

{# What was received while the partition of `day` could still change. #}
{% macro received_in_time(received_at, day) -%}
    date({{ received_at }}) <= date_add({{ day }}, interval {{ var("late_days") }} day)
{%- endmacro %}

{# The first and last day to rebuild, as SQL; none when that is every day. #}
{% macro _event_days() -%}
    {%- set bounds = _given_days() -%}
    {%- if bounds -%}
        {{ return({"first": _date(bounds.first), "last": _date(bounds.last)}) }}
    {%- elif is_incremental() -%}
        {{ return({"first": _day_from("current_date('UTC')", -var("late_days") - 1), "last": "current_date('UTC')"}) }}
    {%- else -%}
        {{ return(none) }}
    {%- endif -%}
{%- endmacro %}

{# The days that the vars name, as dates; none without them. Raises a compiler error that names the var at fault. #}
{% macro _given_days() -%}
    {%- set first = _day_in_var("partition_start") -%}
    {%- set last = _day_in_var("partition_end") -%}
    {%- if first is none and last is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- for name, other, day in [("partition_start", "partition_end", first), ("partition_end", "partition_start", last)] -%}
        {%- if day is none -%}
            {{ exceptions.raise_compiler_error("the var " ~ name ~ " is missing: it goes with " ~ other) }}
        {%- endif -%}
    {%- endfor -%}
    {%- if last < first -%}
        {{ exceptions.raise_compiler_error(
            "the var partition_end (" ~ last ~ ") is before partition_start (" ~ first ~ ")"
        ) }}
    {%- endif -%}
    {#- A unit test names its days itself, and makes no table. -#}
    {%- if flags.FULL_REFRESH and model.resource_type == "model" -%}
        {{ exceptions.raise_compiler_error(
            "--full-refresh with the vars partition_start and partition_end would drop every other day: leave one of them out"
        ) }}
    {%- endif -%}
    {{ return({"first": first, "last": last}) }}
{%- endmacro %}

{% macro _day_in_var(name) -%}
    {%- set given = var(name, none) -%}
    {%- if given is none -%}
        {{ return(none) }}
    {%- endif -%}
    {#- YAML makes a date of an ISO date without quotes. -#}
    {%- set text = given | string -%}
    {%- set parts = modules.re.fullmatch("([12]\\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])", text) -%}
    {%- if parts -%}
        {#- The 31st of June becomes the 1st of July here, where fromisoformat would raise an error that names no var. -#}
        {%- set month = modules.datetime.date(parts[1] | int, parts[2] | int, 1) -%}
        {%- set day = month + modules.datetime.timedelta(days=(parts[3] | int) - 1) -%}
        {%- if day.isoformat() == text -%}
            {{ return(day) }}
        {%- endif -%}
    {%- endif -%}
    {{ exceptions.raise_compiler_error("the var " ~ name ~ " is no date like 2026-01-31: '" ~ text ~ "'") }}
{%- endmacro %}

{% macro _date(day) -%}
    {{ return("date '" ~ day.isoformat() ~ "'") }}
{%- endmacro %}

{% macro _day_from(day, offset) -%}
    {%- if offset == 0 -%}
        {{ return(day) }}
    {%- elif offset < 0 -%}
        {{ return("date_sub(" ~ day ~ ", interval " ~ -offset ~ " day)") }}
    {%- else -%}
        {{ return("date_add(" ~ day ~ ", interval " ~ offset ~ " day)") }}
    {%- endif -%}
{%- endmacro %}
