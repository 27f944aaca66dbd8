{#
    The merge of `insert_overwrite` with the config `partitions`, which replaces days, with a check before it: a rebuild refuses to
    leave a day without rows that has rows now. It stands here once for all incremental models, in place of dbt-bigquery's macro.

    A rebuilt day has no rows when its sources have lost them, for instance after a table was created again and not backfilled. Where
    the days are really empty, the var `allow_empty_days: true` lets a run replace them. A model whose days may become empty by
    themselves has the config `meta.empty_days: allowed`. `--full-refresh` replaces the whole table and is not checked.
#}
{% macro bq_static_insert_overwrite_sql(
    tmp_relation, target_relation, sql, partition_by, partitions, dest_columns, tmp_relation_exists, copy_partitions
) -%}
    {%- if not var("allow_empty_days", false) and config.get("meta", {}).get("empty_days") != "allowed" -%}
        {%- set new_rows = tmp_relation if tmp_relation_exists else "(" ~ sql ~ ")" -%}
        {%- do _refuse_to_empty_days(target_relation, new_rows, partition_by.render_wrapped(), partitions) -%}
    {%- endif -%}
    {{ dbt.bq_static_insert_overwrite_sql(
        tmp_relation, target_relation, sql, partition_by, partitions, dest_columns, tmp_relation_exists, copy_partitions
    ) }}
{%- endmacro %}

{# Raises a compiler error that names the days of `partitions` that have rows in `target` and none in `new_rows`. #}
{% macro _refuse_to_empty_days(target, new_rows, day, partitions) -%}
    {%- set emptied = run_query(
        "select cast(emptied_day as string) as emptied_day from ("
        ~ "select distinct " ~ day ~ " as emptied_day from " ~ target ~ " where " ~ day ~ " in (" ~ partitions | join(", ") ~ ")"
        ~ " except distinct select distinct " ~ day ~ " from " ~ new_rows
        ~ ") as days order by emptied_day"
    ).columns[0].values() -%}
    {%- if emptied -%}
        {{ exceptions.raise_compiler_error(
            "The rebuild of " ~ target | replace("`", "") ~ " would leave days without rows that have rows now: " ~ emptied | join(", ")
            ~ ". Nothing was replaced. Check that the tables it reads still have the rows of these days. If the days are really empty,"
            ~ " run again with the var allow_empty_days: true, or in Dagster with the run tag dataplatform/allow_empty_days: true."
        ) }}
    {%- endif -%}
{%- endmacro %}
