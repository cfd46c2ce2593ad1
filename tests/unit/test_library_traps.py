"""Behaviours of Polars, DuckDB and pandera that exact money leans on, or has to step around.

Each test pins one, so that an upgrade which changes it fails here, by name, and not in somebody's invoice. When one
fails, read what the project does because of it (named in each docstring) before the version bound is moved.
"""

from decimal import Context, Decimal

import duckdb
import pandera.polars as pa
import polars as pl
import pytest
from pandera.errors import SchemaError, SchemaErrors
from polars.exceptions import ComputeError, InvalidOperationError

from ratemill.frames import collect
from ratemill.money import COST, QUANTITY

OVERFLOW = r"overflow in decimal"
WIDE = Context(prec=40)


def series(*values, dtype):
    return pl.Series([None if value is None else Decimal(value) for value in values], dtype=dtype)


def one(expression, **columns):
    """The expression's values over named series."""
    return pl.DataFrame(columns).select(result=expression)["result"]


# ------------------------------------------------------------------------------------------ Polars: products, quotients


def test_polars_product_keeps_the_larger_scale_and_rounds_half_even():
    """Two 12-place operands lose everything past 12 places: why exact_cost() widens the quantity first."""
    product = one(
        pl.col("a") * pl.col("b"),
        a=series("0.0000015", "0.0000025", dtype=QUANTITY),
        b=series("0.000001", "0.000001", dtype=QUANTITY),
    )
    assert product.dtype == pl.Decimal(38, 12)
    assert product.to_list() == [Decimal("2e-12"), Decimal("2e-12")], "1.5 and 2.5 units of the 12th place: both to 2"


def test_polars_product_is_rounded_at_18_places_when_one_operand_has_18():
    """exact_cost() leans on it: rounded once, half-even, at the 18th place, exact where 18 places are enough."""
    product = one(
        pl.col("a").cast(COST) * pl.col("b"),
        a=series("0.0000015", "1.123456789", "0.0000005", dtype=QUANTITY),
        b=series("0.000001", "0.000001234567", "0.000000000001", dtype=QUANTITY),
    )
    assert product.dtype == COST
    assert product.to_list() == [
        Decimal("0.0000000000015"),
        Decimal("0.000001386982677625"),  # …677625363 exactly
        Decimal(0),  # half of the 18th place: to even
    ]


def test_polars_product_that_overflows_raises():
    """exact_cost() promises an error and never a wrap."""
    with pytest.raises(ComputeError, match=OVERFLOW):
        one(pl.col("a") * pl.col("b"), a=series("1e19", dtype=COST), b=series("100", dtype=QUANTITY))


def test_polars_cast_that_overflows_raises():
    """Widening a quantity to 18 places leaves 20 digits before the point; more must not wrap or become null."""
    with pytest.raises(InvalidOperationError, match="conversion from"):
        one(pl.col("a").cast(COST), a=series("1e20", dtype=QUANTITY))


def test_polars_division_rounds_half_even_at_the_larger_scale():
    """convert_quantity() leans on it."""
    quotient = one(
        pl.col("a") / pl.col("b"),
        a=series("1e-12", "3e-12", "5e-12", "-3e-12", "2", dtype=QUANTITY),
        b=series("2", "2", "2", "2", "3", dtype=QUANTITY),
    )
    assert quotient.dtype == QUANTITY
    assert quotient.to_list() == [
        Decimal(0), Decimal("2e-12"), Decimal("2e-12"), Decimal("-2e-12"), Decimal("0.666666666667"),
    ]  # fmt: skip


def test_polars_decimal_division_by_zero_raises():
    """A divisor of 0 in the book must not become null, infinity or 0 on an invoice."""
    with pytest.raises(ComputeError, match="division by zero"):
        one(pl.col("a") / pl.col("b"), a=series("1", dtype=QUANTITY), b=series("0", dtype=QUANTITY))


@pytest.mark.parametrize(
    "expression",
    [pl.col("a") * 1.5, pl.col("a") * pl.lit(1.5), pl.col("a").mean(), pl.col("a").median(), pl.col("a").quantile(0.5)],
    ids=["times a Python float", "times a float literal", "mean", "median", "quantile"],
)
def test_polars_leaves_the_decimal_domain_for_floats_and_averages(expression):
    """Why tests/unit/test_house_rules.py bans float literals and averages where money is computed."""
    assert one(expression, a=series("0.1", "0.2", dtype=QUANTITY)).dtype == pl.Float64


def test_polars_integers_wrap_where_decimals_raise():
    """Why counts stay small and money is never an integer of minor units."""
    assert one(pl.col("a") * 4, a=pl.Series([2**126], dtype=pl.Int128)).to_list() == [0]
    assert one(pl.col("a").sum(), a=pl.Series([2**62, 2**62], dtype=pl.Int64)).to_list() == [-(2**63)]


# -------------------------------------------------------------------------------------------------- Polars: sums, engines

TOO_MUCH = pl.LazyFrame({"key": ["a", "a", "a", "a"], "v": series("9e19", "9e19", "9e19", "9e19", dtype=COST)})
SUMS = {
    "group_by": TOO_MUCH.group_by("key").agg(pl.col("v").sum()).select("v"),
    "over": TOO_MUCH.select(pl.col("v").sum().over("key")),
}


@pytest.mark.parametrize("query", SUMS.values(), ids=SUMS)
def test_polars_in_memory_engine_wraps_sums_silently(query):
    """Why frames.collect() is the only place that collects: four times 90 quintillion are 19.7 without a word."""
    assert query.collect(engine="in-memory")["v"][0] == Decimal(4 * 90 * 10**36 - 2**128).scaleb(-18, WIDE)


def test_polars_eager_group_by_wraps_as_well():
    """Why a group_by on money is written lazily, however small the frame."""
    assert TOO_MUCH.collect(engine="in-memory").group_by("key").agg(pl.col("v").sum())["v"][0] < Decimal("9e19")


@pytest.mark.parametrize("query", SUMS.values(), ids=SUMS)
def test_polars_streaming_engine_raises_when_a_sum_overflows(query):
    """What frames.collect() leans on; a silent fall-back to the in-memory engine would show here."""
    with pytest.raises(ComputeError, match=OVERFLOW):
        collect(query)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_polars_plain_sum_raises_when_it_overflows(engine):
    """Control totals are plain sums."""
    with pytest.raises(ComputeError, match=OVERFLOW):
        TOO_MUCH.select(pl.col("v").sum()).collect(engine=engine)


def test_polars_sum_keeps_the_scale_and_skips_nulls():
    """Rows without a price are split off before any sum: a sum would bill them as nothing."""
    total = one(pl.col("v").sum(), v=series("1.5", None, "2.25", dtype=COST))
    assert total.dtype == COST
    assert total.to_list() == [Decimal("3.75")]


def test_polars_sum_of_nothing_is_zero():
    """An empty group must be told from a group that costs nothing by its row count."""
    assert one(pl.col("v").sum(), v=series(None, dtype=COST)).to_list() == [Decimal(0)]


# --------------------------------------------------------------------------------------- Polars: concat, rounding, reading


def test_polars_concat_of_mixed_scales_rounds_to_the_first_frames_scale():
    """Why frames are concatenated only after they were validated against one schema."""
    short, long = (pl.DataFrame({"v": series(v, dtype=t)}) for v, t in (("1.25", pl.Decimal(38, 2)), ("1.005", COST)))
    assert pl.concat([short, long])["v"].to_list() == [Decimal("1.25"), Decimal("1.00")], "0.005 lost without a word"
    assert pl.concat([long, short])["v"].to_list() == [Decimal("1.005"), Decimal("1.25")]


def test_polars_concat_vertical_relaxed_takes_the_larger_scale():
    """The way to concatenate where scales may differ."""
    short, long = (pl.DataFrame({"v": series(v, dtype=t)}) for v, t in (("1.25", pl.Decimal(38, 2)), ("1.005", COST)))
    both = pl.concat([short, long], how="vertical_relaxed")
    assert both.schema["v"] == COST
    assert both["v"].to_list() == [Decimal("1.25"), Decimal("1.005")]


HALVES = series("0.125", "-0.125", "0.135", "-0.135", dtype=COST)


def test_polars_round_and_cast_go_half_even_by_default():
    """Why round_half_up() names its mode, and rounds before it casts."""
    half_even = [Decimal("0.12"), Decimal("-0.12"), Decimal("0.14"), Decimal("-0.14")]
    assert one(pl.col("v").round(2), v=HALVES).to_list() == half_even
    assert one(pl.col("v").cast(pl.Decimal(38, 2)), v=HALVES).to_list() == half_even


def test_polars_round_half_away_from_zero():
    """round_half_up() leans on it: a credit of -0.125 mirrors a charge of 0.125."""
    rounded = one(pl.col("v").round(2, mode="half_away_from_zero"), v=HALVES)
    assert rounded.to_list() == [Decimal("0.13"), Decimal("-0.13"), Decimal("0.14"), Decimal("-0.14")]


def test_polars_reads_too_many_digits_of_text_by_rounding():
    """Why the book and usage readers check the number of decimals before they cast text."""
    read = one(pl.col("v").cast(pl.Decimal(38, 4)), v=pl.Series(["0.12345", "0.12355"]))
    assert read.to_list() == [Decimal("0.1234"), Decimal("0.1236")]


def test_polars_reads_floats_by_their_binary_value():
    """Why a float quantity is refused, or read as the text that prints it: digits appear that nobody metered."""
    read = one(pl.col("v").cast(QUANTITY), v=pl.Series([1e20]))
    assert read.to_list() == [Decimal("100000000000000005366.162204393472")], "a hundred quintillion was meant"


def test_polars_bare_decimal_has_no_decimals():
    """Why every decimal column names its precision and scale."""
    assert pl.Decimal() == pl.Decimal(38, 0)


# ----------------------------------------------------------------------------------------------------------------- DuckDB


def ask(query, parameters=None):
    """Types and the single row of a query."""
    with duckdb.connect() as connection:
        relation = connection.execute(query, parameters)
        return [str(column[1]) for column in relation.description], relation.fetchone()


@pytest.mark.parametrize("select", ["sum(v)", "k, sum(v)", "sum(v) OVER (PARTITION BY k)"])
def test_duckdb_sum_that_overflows_raises(select):
    """Aggregation to the charge grain happens in DuckDB and must not wrap."""
    grouped = "GROUP BY k" if select.startswith("k") else ""
    with pytest.raises(duckdb.OutOfRangeException, match="Overflow"):
        ask(f"SELECT {select} FROM (VALUES (1, 9e19::DECIMAL(38,18)), (1, 9e19::DECIMAL(38,18))) AS t(k, v) {grouped}")


def test_duckdb_sum_of_decimals_is_decimal_38_of_the_same_scale():
    """Quantities arrive in Polars as DECIMAL(38,12) and need no cast."""
    assert ask("SELECT sum(v) FROM (VALUES (1.5::DECIMAL(18,12)), (2)) AS t(v)") == (
        ["DECIMAL(38,12)"],
        (Decimal("3.5"),),
    )


def test_duckdb_division_and_avg_are_double():
    """Why no query in sql/ divides or averages money: Polars does, in one helper."""
    types, _ = ask("SELECT 1::DECIMAL(38,12) / 3::DECIMAL(38,12), avg(v) FROM (VALUES (1::DECIMAL(38,12))) AS t(v)")
    assert types == ["DOUBLE", "DOUBLE"]


def test_duckdb_product_adds_scales_and_raises_past_38():
    """The independent recomputation in tests multiplies in DuckDB: quantity (38,12) × price (38,12) is exact at 24."""
    assert ask("SELECT 1.5::DECIMAL(38,12) * 2.5::DECIMAL(18,6)") == (["DECIMAL(38,18)"], (Decimal("3.75"),))
    with pytest.raises(duckdb.OutOfRangeException, match="scale 40"):
        ask("SELECT 1::DECIMAL(38,20) * 1::DECIMAL(38,20)")


def test_duckdb_round_and_cast_go_half_away_from_zero():
    """The other way than Polars' defaults, and the same as round_half_up(): reports may round in SQL."""
    expected = (Decimal("0.13"), Decimal("-0.13"), Decimal("0.14"))
    assert (
        ask("SELECT round(0.125::DECIMAL(38,18), 2), round(-0.125::DECIMAL(38,18), 2), round(0.135, 2)")[1] == expected
    )
    casts = "SELECT 0.125::DECIMAL(38,18)::DECIMAL(38,2), (-0.125)::DECIMAL(38,18)::DECIMAL(38,2), 0.135::DECIMAL(38,2)"
    assert ask(casts)[1] == expected


def test_duckdb_round_even_is_another_function():
    """Where half-even is wanted in SQL it has its own name."""
    assert ask("SELECT round_even(0.125::DECIMAL(38,18), 2)")[1] == (Decimal("0.12"),)


def test_duckdb_literals_are_decimal_unless_they_have_an_exponent():
    """0.1 in a query is exact; 1e-1 is a float."""
    assert ask("SELECT 0.1 + 0.2, 1e-1")[0] == ["DECIMAL(3,1)", "DOUBLE"]


def test_duckdb_refuses_named_parameters_in_views():
    """Why a file of sql/ is one plain SELECT, and Python makes the table."""
    with pytest.raises(duckdb.Error, match=r"(?i)parameter"):
        ask("CREATE VIEW v AS SELECT $period AS period", {"period": "2026-10"})


def test_duckdb_takes_an_unset_variable_for_null():
    """Why queries take $name parameters and never getvariable(): no rows, and no error."""
    assert ask("SELECT count(*) FROM (VALUES (1)) AS t(v) WHERE v = getvariable('never_set')")[1] == (0,)


def test_duckdb_hands_decimals_to_polars_unchanged():
    """The one crossing between the engines, by Arrow: type and every digit."""
    with duckdb.connect() as connection:
        query = "SELECT 12345678901234567890.123456789012345678::DECIMAL(38,18) AS v, 1::DECIMAL(38,12) AS q"
        frame = pl.DataFrame(connection.sql(query).to_arrow_table())
    assert frame.schema == {"v": COST, "q": QUANTITY}
    assert frame["v"].to_list() == [Decimal("12345678901234567890.123456789012345678")]


# ---------------------------------------------------------------------------------------------------------------- pandera

SCHEMA = pa.DataFrameSchema({"v": pa.Column(COST, pa.Check.ge(Decimal(0)), nullable=False)})
BAD = pl.DataFrame({"v": series("1", "-1", None, dtype=COST)})


def test_pandera_checks_values_of_a_data_frame_and_says_which_rows():
    """Table.validate() and the split of usage files lean on the row numbers."""
    with pytest.raises(SchemaErrors) as caught:
        SCHEMA.validate(BAD, lazy=True)
    assert sorted(caught.value.failure_cases["index"].to_list()) == [1, 2]


def test_pandera_checks_only_the_schema_of_a_lazy_frame():
    """Why tables are validated as frames: the same bad rows pass."""
    passed = SCHEMA.validate(BAD.lazy(), lazy=True)
    assert collect(passed).equals(BAD)


def test_pandera_drop_invalid_rows_drops_nothing_from_a_lazy_frame():
    """Why it is not used."""
    schema = pa.DataFrameSchema(SCHEMA.columns, drop_invalid_rows=True)
    assert collect(schema.validate(BAD.lazy(), lazy=True)).height == BAD.height
    assert schema.validate(BAD, lazy=True).height == 1


def test_pandera_bare_decimal_means_28_digits_and_no_decimals():
    """Why every column's dtype names precision and scale; both must match exactly."""
    column = pa.Column(pl.Decimal)
    assert column.dtype.type == pl.Decimal(28, 0)
    with pytest.raises(SchemaError, match=r"expected column 'v' to have type"):
        pa.DataFrameSchema({"v": pa.Column(pl.Decimal(38, 12))}).validate(pl.DataFrame({"v": series("1", dtype=COST)}))
