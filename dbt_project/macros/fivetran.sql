{#
    A condition: the source still has a row of a table that Fivetran lands, and the row is its newest version.

    Which column says so differs by connector, and by table within one: see https://fivetran.com/docs/core-concepts/sync-modes/soft-delete
    and Fivetran's own dbt packages, whose columns are in tests/contracts/landing. The column may be null, as those packages assume.
    '*' stands for every table that is not named; none for a table in which nothing marks what was deleted.
-#}
{%- macro is_active_row(source_name, table_name) -%}
    {%- set soft_deletes = {
        'product': {'*': '_fivetran_deleted'},
        'salesforce': {'*': 'is_deleted', 'user': '_fivetran_deleted'},
        'stripe': {'*': 'is_deleted', 'subscription_history': '_fivetran_active', 'subscription_item': none},
        'zendesk': {'*': '_fivetran_deleted', 'organization': none, 'ticket_field_history': none},
    } -%}
    {%- if source_name not in soft_deletes -%}
        {{ exceptions.raise_compiler_error(
            "is_active_row: nothing is known about the connection `" ~ source_name ~ "`. Look up which column its connector marks deleted rows in, and add it to macros/fivetran.sql."
        ) }}
    {%- endif -%}
    {%- set tables = soft_deletes[source_name] -%}
    {%- set column = tables[table_name] if table_name in tables else tables['*'] -%}
    {%- if column is none -%}
        true
    {%- elif column == '_fivetran_active' -%}
        coalesce(_fivetran_active, true)
    {%- else -%}
        not coalesce({{ column }}, false)
    {%- endif -%}
{%- endmacro -%}
