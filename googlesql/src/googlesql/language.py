"""The dialect of BigQuery: which features, statements and functions of GoogleSQL it has."""

from __future__ import annotations

from zetasql.wasi._pb2.zetasql.proto import function_pb2, options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as public_function_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_options_pb2
from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_node_kind_pb2

# Google's own list for BigQuery, of GoogleCloudPlatform/zetasql-toolkit (zetasql-toolkit-bigquery/src/main/java/com/google/zetasql/
# toolkit/options/BigQueryLanguageOptions.java), without the version in the names of the features that have one.
FEATURES = """
ALLOW_MISSING_PATH_EXPRESSION_IN_ALTER_DDL ALTER_COLUMN_SET_DATA_TYPE ALTER_TABLE_RENAME_COLUMN ANALYTIC_FUNCTIONS ANONYMIZATION BIGNUMERIC_TYPE
CBRT_FUNCTIONS CREATE_EXTERNAL_TABLE_WITH_CONNECTION CREATE_EXTERNAL_TABLE_WITH_PARTITION_COLUMNS CREATE_EXTERNAL_TABLE_WITH_TABLE_ELEMENT_LIST
CREATE_MATERIALIZED_VIEW_CLUSTER_BY CREATE_MATERIALIZED_VIEW_PARTITION_BY CREATE_SNAPSHOT_TABLE CREATE_TABLE_AS_SELECT_COLUMN_LIST CREATE_TABLE_CLONE
CREATE_TABLE_CLUSTER_BY CREATE_TABLE_COPY CREATE_TABLE_FIELD_ANNOTATIONS CREATE_TABLE_FUNCTION CREATE_TABLE_LIKE CREATE_TABLE_NOT_NULL
CREATE_TABLE_PARTITION_BY CREATE_VIEW_WITH_COLUMN_LIST DML_UPDATE_WITH_JOIN ENCRYPTION FOREIGN_KEYS GEOGRAPHY GROUP_BY_ROLLUP INTERVAL_TYPE
INVERSE_TRIG_FUNCTIONS JSON_ARRAY_FUNCTIONS JSON_TYPE JSON_VALUE_EXTRACTION_FUNCTIONS NAMED_ARGUMENTS NUMERIC_TYPE PARAMETERIZED_TYPES
PARAMETERS_IN_GRANTEE_LIST ROUND_WITH_ROUNDING_MODE TABLESAMPLE TABLE_VALUED_FUNCTIONS TEMPLATE_FUNCTIONS TIMESTAMP_NANOS TIME_BUCKET_FUNCTIONS
UNENFORCED_PRIMARY_KEYS HAVING_IN_AGGREGATE LIMIT_IN_AGGREGATE NULL_HANDLING_MODIFIER_IN_AGGREGATE NULL_HANDLING_MODIFIER_IN_ANALYTIC
ORDER_BY_IN_AGGREGATE SELECT_STAR_EXCEPT_REPLACE WITH_ON_SUBQUERY CIVIL_TIME SAFE_FUNCTION_CALL WEEK_WITH_WEEKDAY ADDITIONAL_STRING_FUNCTIONS
ALLOW_DASHES_IN_TABLE_NAME ALLOW_REGEXP_EXTRACT_OPTIONALS ANNOTATION_FRAMEWORK CASE_STMT COLLATION_SUPPORT COLUMN_DEFAULT_VALUE CONCAT_MIXED_TYPES
DATE_ARITHMETICS DATE_TIME_CONSTRUCTORS DECIMAL_ALIAS EXTENDED_DATE_TIME_SIGNATURES EXTENDED_GEOGRAPHY_PARSERS FORMAT_IN_CAST FOR_IN IS_DISTINCT
LIKE_ANY_SOME_ALL NULLS_FIRST_LAST_IN_ORDER_BY OMIT_INSERT_COLUMN_LIST PIVOT QUALIFY REMOTE_FUNCTION REPEAT SCRIPT_LABEL UNNEST_AND_FLATTEN_ARRAYS
UNPIVOT WITH_GROUP_ROWS WITH_RECURSIVE ARRAY_AGGREGATION_FUNCTIONS REMOTE_MODEL GROUPING_BUILTIN GROUPING_SETS GROUP_BY_ALL
""".split()

# What BigQuery has got since that list was last changed, each with BigQuery's page about it.
FEATURES_SINCE = {
    "PIPES": "https://cloud.google.com/bigquery/docs/reference/standard-sql/pipe-syntax",
    "FOR_SYSTEM_TIME_AS_OF": "https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#for_system_time_as_of",
    "RANGE_TYPE": "https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#range_type",
    "GROUP_BY_STRUCT": "https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#groupable_data_types",
    "GROUP_BY_ARRAY": "https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#groupable_data_types",
    "JSON_CONSTRUCTOR_FUNCTIONS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_array",
    "JSON_MUTATOR_FUNCTIONS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_set",
    "JSON_LAX_VALUE_EXTRACTION_FUNCTIONS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#lax_bool",
    "JSON_KEYS_FUNCTION": "https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_keys",
    "WITH_EXPRESSION": "https://cloud.google.com/bigquery/docs/reference/standard-sql/operators#with_expression",
    "BY_NAME": "https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#by_name_or_corresponding",
    "CORRESPONDING": "https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#by_name_or_corresponding",
    "CORRESPONDING_FULL": "https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#by_name_or_corresponding",
    "ALTER_COLUMN_DROP_GENERATED": "https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language",
    "TYPEOF_FUNCTION": "https://cloud.google.com/bigquery/docs/reference/standard-sql/utility-functions#typeof",
    "ENABLE_FLOAT_DISTANCE_FUNCTIONS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/mathematical_functions#cosine_distance",
}

# Names of types that GoogleSQL's external mode leaves to the engine.
# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#integer_types
TYPE_ALIASES = dict.fromkeys(("INT", "SMALLINT", "INTEGER", "BIGINT", "TINYINT", "BYTEINT"), type_pb2.TYPE_INT64)

STATEMENTS = """
ALTER_ENTITY ALTER_MATERIALIZED_VIEW ALTER_MODEL ALTER_SCHEMA ALTER_TABLE ALTER_VIEW ASSERT ASSIGNMENT AUX_LOAD_DATA BEGIN CALL COMMIT CREATE_ENTITY
CREATE_EXTERNAL_TABLE CREATE_FUNCTION CREATE_INDEX CREATE_MATERIALIZED_VIEW CREATE_MODEL CREATE_PROCEDURE CREATE_ROW_ACCESS_POLICY CREATE_SCHEMA
CREATE_SNAPSHOT_TABLE CREATE_TABLE_AS_SELECT CREATE_TABLE_FUNCTION CREATE_TABLE CREATE_VIEW DELETE DROP_FUNCTION DROP_MATERIALIZED_VIEW
DROP_ROW_ACCESS_POLICY DROP_SNAPSHOT_TABLE DROP DROP_TABLE_FUNCTION EXECUTE_IMMEDIATE EXPORT_DATA EXPORT_MODEL GRANT INSERT MERGE QUERY REVOKE
ROLLBACK TRUNCATE UPDATE
""".split()
"""Kinds of statements that BigQuery runs: the same file of Google's."""


def language_options() -> options_pb2.LanguageOptionsProto:
    """Return BigQuery's dialect. QUALIFY is a reserved word in it."""
    features = public_options_pb2.LanguageFeature
    return options_pb2.LanguageOptionsProto(
        name_resolution_mode=public_options_pb2.NAME_RESOLUTION_DEFAULT,
        product_mode=public_options_pb2.PRODUCT_EXTERNAL,
        enabled_language_features=[features.Value(f"FEATURE_{name}") for name in (*FEATURES, *FEATURES_SINCE)],
        supported_statement_kinds=[
            resolved_node_kind_pb2.ResolvedNodeKind.Value(f"RESOLVED_{name}_STMT") for name in STATEMENTS
        ],
        reserved_keywords=["QUALIFY"],
    )


def empty_catalog(options: options_pb2.LanguageOptionsProto) -> simple_catalog_pb2.SimpleCatalogProto:
    """Return a catalog with BigQuery's functions and type names, and no tables."""
    catalog = simple_catalog_pb2.SimpleCatalogProto(name="bigquery")
    catalog.builtin_function_options.CopyFrom(options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=options))
    for name, kind in TYPE_ALIASES.items():
        catalog.named_type.add(name=name, type=type_pb2.TypeProto(type_kind=kind))
    catalog.custom_function.extend(_functions_of_bigquery())
    return catalog


def _functions_of_bigquery() -> list[function_pb2.FunctionProto]:
    """Return BigQuery's functions that GoogleSQL itself lacks: BigQueryBuiltIns.java of the same repository of Google's."""
    string, anything = _simple(type_pb2.TYPE_STRING), public_function_pb2.ARG_TYPE_ARBITRARY
    return [
        _function("contains_substr", type_pb2.TYPE_BOOL, [anything, string], optional=[string]),
        _function("search", type_pb2.TYPE_BOOL, [anything, string], optional=[string, string]),
    ]


def _simple(kind: int) -> type_pb2.TypeProto:
    return type_pb2.TypeProto(type_kind=kind)


def _function(name: str, result: int, required: list, optional: list) -> function_pb2.FunctionProto:
    function = function_pb2.FunctionProto(
        name_path=[name], group="BigQuery", mode=public_function_pb2.FunctionEnums.SCALAR
    )
    signature = function.signature.add()
    signature.return_type.CopyFrom(_argument(_simple(result), public_function_pb2.FunctionEnums.REQUIRED))
    for argument in required:
        signature.argument.append(_argument(argument, public_function_pb2.FunctionEnums.REQUIRED))
    for argument in optional:
        signature.argument.append(_argument(argument, public_function_pb2.FunctionEnums.OPTIONAL))
    return function


def _argument(kind: type_pb2.TypeProto | int, cardinality: int) -> function_pb2.FunctionArgumentTypeProto:
    argument = function_pb2.FunctionArgumentTypeProto(num_occurrences=1)
    argument.options.cardinality = cardinality
    if isinstance(kind, int):
        argument.kind = kind
    else:
        argument.kind = public_function_pb2.ARG_TYPE_FIXED
        argument.type.CopyFrom(kind)
    return argument
