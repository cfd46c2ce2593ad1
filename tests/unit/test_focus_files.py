"""FOCUS as files: types, texts, schemas that describe them, and the manifest that says that all are there."""

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratemill.io.focus_files import FocusSchema, dataset_writer, is_export, write_manifest, write_metadata
from ratemill.tables.focus import DATASETS, FOCUS_VERSIONS, ROWS, SCHEMA_CREATED

SCHEMAS = [FocusSchema(version, dataset) for version in FOCUS_VERSIONS for dataset in DATASETS[version]]


def some_rows():
    values = {
        "BilledCost": Decimal("-1.50"), "ListCost": Decimal("0.000000000000000000000001"), "PricingQuantity": Decimal(100),
        "BillingAccountName": 'Dupont, "Père"', "Tags": '{"env": "prod"}', "x_InvoiceLineNumber": 3,
        "ChargePeriodStart": datetime(2026, 10, 1, 22, 0, 0, tzinfo=UTC), "EffectiveCost": Decimal(0),
    }  # fmt: skip
    row = {column.name: values.get(column.name) for column in ROWS.columns}
    missing = {pl.String: "x", pl.Datetime: datetime(2026, 10, 1, tzinfo=UTC), pl.Decimal: Decimal(1), pl.Int32: 1}
    for column in ROWS.columns:
        if row[column.name] is None and not column.nullable:
            row[column.name] = missing[column.dtype.base_type()]
    return pl.DataFrame([row], schema=ROWS.polars_schema)


def written(folder, file_format, *frames):
    schema = SCHEMAS[0]
    with dataset_writer(folder, schema, file_format) as writer:
        for frame in frames:
            writer.write(frame)
    assert writer.rows == sum(frame.height for frame in frames)
    return folder / f"{schema.dataset.file}.{file_format}"


def test_parquet_has_exact_types_utc_and_real_nulls(tmp_path):
    path = written(tmp_path, "parquet", some_rows(), some_rows())
    found = pq.read_table(path)
    assert found.num_rows == 2
    assert found.schema.field("ListCost").type == pa.decimal128(38, 24)
    assert found.schema.field("BilledCost").type == pa.decimal128(38, 18)
    assert found.schema.field("ChargePeriodStart").type == pa.timestamp("us", "UTC")
    assert found.schema.field("Tags").type == pa.string()
    assert not found.schema.field("BilledCost").nullable
    assert found["ListCost"][0].as_py() == Decimal("1E-24")
    assert found["RegionId"][0].as_py() is None
    assert found.schema.metadata[b"SchemaId"].decode() == SCHEMAS[0].schema_id


def test_csv_is_written_as_focus_writes_numbers_and_instants(tmp_path):
    path = written(tmp_path, "csv", some_rows(), some_rows())
    header, first, second = path.read_text(encoding="utf-8").splitlines()
    assert first == second
    (row,) = pl.read_csv(path, infer_schema=False).head(1).to_dicts()
    assert header.split(",") == list(row)
    assert (row["BilledCost"], row["EffectiveCost"], row["PricingQuantity"]) == ("-1.5", "0", "100")
    assert row["ListCost"] == "0.000000000000000000000001"
    assert row["ChargePeriodStart"] == "2026-10-01T22:00:00Z"
    assert (row["BillingAccountName"], row["Tags"]) == ('Dupont, "Père"', '{"env": "prod"}')
    assert row["RegionId"] is None
    assert row["x_InvoiceLineNumber"] == "3"


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_a_dataset_without_rows_has_its_columns(tmp_path, file_format):
    path = written(tmp_path, file_format)
    frame = pl.read_parquet(path) if file_format == "parquet" else pl.read_csv(path)
    assert (frame.height, frame.columns) == (0, SCHEMAS[0].dataset.table.names)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: f"{schema.version} {schema.dataset.title}")
def test_a_schema_says_what_every_column_is(schema):
    told = schema.as_json()
    assert told["FocusVersion"] == schema.version
    columns = {column["ColumnName"]: column for column in told["ColumnDefinition"]}
    assert list(columns) == schema.dataset.table.names
    for column in schema.dataset.table.columns:
        definition = columns[column.name]
        assert definition["DataType"] in {"STRING", "JSON", "DECIMAL", "DATETIME", "INTEGER"}
        if isinstance(column.dtype, pl.Decimal):
            assert (definition["NumericPrecision"], definition["NumberScale"]) == (38, column.dtype.scale)
    if "Tags" in columns:
        assert columns["Tags"]["ProviderTagPrefixes"] == []


def test_columns_are_in_order_and_our_own_come_last():
    for schema in SCHEMAS:
        names = schema.dataset.table.names
        theirs, ours = ([n for n in names if n.startswith("x_") is own] for own in (False, True))
        assert names == theirs + ours
        assert theirs == sorted(theirs)
        assert all(name[2].isupper() for name in ours)


def test_the_day_of_the_schemas_is_changed_with_the_columns():
    """When this fails, columns have changed: set SCHEMA_CREATED in tables/focus.py to today, and the hash here."""
    ids = [schema.schema_id for schema in SCHEMAS]
    assert len(set(ids)) == len(ids)
    digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()
    assert (SCHEMA_CREATED, digest[:16]) == ("2026-11-25T00:00:00Z", "612a67a0a3516807")


def test_metadata_and_manifest(tmp_path):
    schema = SCHEMAS[0]
    assert not is_export(tmp_path)
    path = written(tmp_path, "csv", some_rows())
    write_metadata(tmp_path, [schema], generator="Example Cloud")
    manifest = write_manifest(tmp_path, {"focus_version": "1.4", "status": "draft"}, {path.name: 1})
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    assert set(manifest["files"]) == {
        "cost_and_usage.csv", "metadata/data_generator.json", "metadata/schema_cost_and_usage.json",
    }  # fmt: skip
    told = manifest["files"][path.name]
    assert told == {"bytes": path.stat().st_size, "rows": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert json.loads((tmp_path / "metadata" / "data_generator.json").read_text()) == {"DataGenerator": "Example Cloud"}
    assert is_export(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"runs": {}}', "{"])
def test_another_manifest_is_no_export(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert not is_export(tmp_path)
