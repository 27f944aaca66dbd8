{#
    In: the `+schema` of a node's folder, if it has one.
    Out: in prod that schema as it is; elsewhere <the target's schema>_<that schema>, so that two people never share one.
    A model without a schema would land in a dataset that nobody reads, so prod refuses it.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set custom = custom_schema_name | trim if custom_schema_name else none -%}
    {%- if target.name != "prod" -%}
        {{ target.schema ~ "_" ~ custom if custom else target.schema }}
    {%- elif custom -%}
        {{ custom }}
    {%- elif node.resource_type in ("model", "seed", "snapshot") -%}
        {{ exceptions.raise_compiler_error(
            node.resource_type ~ " '" ~ node.name ~ "' has no schema: put it in a folder with a +schema in dbt_project.yml"
        ) }}
    {%- else -%}
        {{ target.schema }}
    {%- endif -%}
{%- endmacro %}
