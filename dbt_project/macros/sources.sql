{#
    The rows of a source table with every column that its YAML declares, also where the table or a column does not exist yet.

    Segment creates a table when its first event arrives, and a column when its first value arrives
    (https://segment.com/docs/connections/storage/warehouses/schema/#new-columns). Until then the table is read as an empty one and
    the column as null of the declared `data_type`, and a warning names the table or the column.

    source_name, table_name: as for `source`.
    loaded_where: a condition on columns that a `select *` does not give, such as `_partitiontime`.
    Returns a relation or a subquery, for `from`.

    The var `source_columns` says which columns exist: `warehouse` asks BigQuery, `declared` takes those of the YAML and needs no
    connection.
#}
{% macro landed_table(source_name, table_name, loaded_where="") -%}
    {%- set relation = source(source_name, table_name) -%}
    {#- The rows of a unit test have exactly the columns that the test gives them, and no pseudo-column. -#}
    {%- if not execute or model.resource_type == "unit_test" -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set columns = _declared_columns(source_name, table_name) -%}
    {%- set missing = _missing_columns(source_name, table_name, relation, columns) -%}
    (
        select
            {%- for column in columns %}
            {% if column.name in missing %}cast(null as {{ column.data_type }}) as {% endif %}{{ adapter.quote(column.name) }}
            {%- if not loop.last %},{% endif %}
            {%- endfor %}
        {%- if missing | length == columns | length %}
        limit 0
        {%- else %}
        from {{ relation }}
        {%- if loaded_where %}
        where {{ loaded_where }}
        {%- endif %}
        {%- endif %}
    )
{%- endmacro %}

{# The columns of a source's YAML. Raises a compiler error for a column without `data_type`. #}
{% macro _declared_columns(source_name, table_name) -%}
    {%- set found = graph.sources.values()
        | selectattr("source_name", "equalto", source_name) | selectattr("name", "equalto", table_name) | first -%}
    {%- for column in found.columns.values() if not column.data_type -%}
        {{ exceptions.raise_compiler_error(
            "the column " ~ column.name ~ " of the source " ~ source_name ~ "." ~ table_name ~ " has no data_type in "
            ~ found.original_file_path
        ) }}
    {%- endfor -%}
    {{ return(found.columns.values() | list) }}
{%- endmacro %}

{# The names of the declared columns that BigQuery does not have; all of them where there is no table. Warns of each. #}
{% macro _missing_columns(source_name, table_name, relation, declared) -%}
    {%- set asked = var("source_columns", "warehouse") -%}
    {%- if asked == "declared" -%}
        {{ return([]) }}
    {%- elif asked != "warehouse" -%}
        {{ exceptions.raise_compiler_error("the var source_columns is '" ~ asked ~ "', not `warehouse` or `declared`") }}
    {%- endif -%}
    {#- dbt answers with no columns where there is no table or dataset; any other error of BigQuery fails the model. -#}
    {%- set present = adapter.get_columns_in_relation(relation) | map(attribute="name") | map("lower") | list -%}
    {%- set missing = [] -%}
    {%- for column in declared if column.name | lower not in present -%}
        {%- do missing.append(column.name) -%}
    {%- endfor -%}
    {%- set table = "`" ~ source_name ~ "." ~ table_name ~ "` (" ~ relation | replace("`", "") ~ ")" -%}
    {%- if not present -%}
        {%- do exceptions.warn(
            "Source table " ~ table ~ " does not exist yet: `" ~ model.name ~ "` reads it as an empty table."
        ) -%}
    {%- elif missing -%}
        {%- do exceptions.warn(
            "Source table " ~ table ~ " does not have the column" ~ ("s" if missing | length > 1 else "") ~ " `"
            ~ missing | join("`, `") ~ "` yet: `" ~ model.name ~ "` reads null instead."
        ) -%}
    {%- endif -%}
    {{ return(missing) }}
{%- endmacro %}
