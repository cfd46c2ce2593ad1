"""An invoice, and what becomes of a line on it: rounding, deductions, tax, total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ratemill.insight.explain.arithmetic import Operand as Of
from ratemill.insight.explain.arithmetic import Working, must_equal, shown, total, work
from ratemill.insight.explain.deductions import Deals, Deducted, taken_again
from ratemill.insight.explain.model import Cell, Column, Step, Table, largest_first
from ratemill.money import ZERO, minor_unit_decimals

if TYPE_CHECKING:
    from datetime import datetime

    from ratemill.book.model import Book
    from ratemill.tables.invoices import Billed

Row = Mapping[str, Any]
_TAX = ("tax_code", "tax_category", "tax_rate")
_TAX_OF_LINES = ("tax_code", "category", "rate")


@dataclass(frozen=True)
class Document:
    """One invoice or credit note of a run, or a credit note made by hand."""

    invoice: Row
    lines: Sequence[Row]
    """By number."""
    deductions: Sequence[Row]
    taxes: Sequence[Row]
    credits: Sequence[Row]
    commitments: Sequence[Row]
    book: Book
    tax_point: datetime
    zone: str
    """Of the account that pays."""
    covered: Mapping[tuple[str, int], Decimal]
    """See :func:`ratemill.insight.explain.deductions.taken_again`."""

    @classmethod
    def of(
        cls, billed: Billed, book: Book, *, tax_point: datetime, zone: str, covered: Mapping[tuple[str, int], Decimal]
    ) -> Document:
        """The one document in ``billed``."""
        return cls(
            billed.invoices.row(0, named=True),
            billed.lines.sort("line_number").to_dicts(),
            billed.deductions.sort("deduction_number", "line_number").to_dicts(),
            billed.taxes.to_dicts(),
            billed.credits.sort("credit_id").to_dicts(),
            billed.commitments.sort("commitment_id").to_dicts(),
            book,
            tax_point,
            zone,
            covered,
        )

    @property
    def name(self) -> str:
        """Its number, else its identity."""
        return str(self.invoice["number"] or self.invoice["invoice_id"])

    @property
    def currency(self) -> str:
        """ISO 4217 code of every amount."""
        return str(self.invoice["currency"])

    @property
    def places(self) -> int:
        """Decimals of the currency."""
        return minor_unit_decimals(self.currency)

    @property
    def what(self) -> str:
        """``invoice`` or ``credit note``."""
        return str(self.invoice["document"]).replace("_", " ")

    def line(self, number: int) -> Row:
        """The line of a number, from 1 without gaps; of a credit note by hand with them."""
        return next(line for line in self.lines if line["line_number"] == number)

    @cached_property
    def deducted(self) -> list[Deducted]:
        """Its deductions, computed again in their order."""
        deals = Deals(
            *(
                {row[key]: row for row in self.book.frame(table).iter_rows(named=True)}
                for table, key in (("discounts", "discount_id"), ("commitments", "commitment_id"),
                                   ("credits", "credit_id"))
            )
        )  # fmt: skip
        return taken_again(
            self.invoice,
            self.lines,
            self.deductions,
            deals=deals,
            committed={row["commitment_id"]: row for row in self.commitments},
            drawn={row["credit_id"]: row for row in self.credits},
            covered=self.covered,
            tax_point=self.tax_point,
            places=self.places,
        )

    def tax_of(self, line: Row) -> Sequence[Row]:
        """The rows of tax that a line is part of; several only where corrections carry other notes."""
        wanted = tuple(line[name] for name in _TAX)
        return [row for row in self.taxes if tuple(row[name] for name in _TAX_OF_LINES) == wanted]

    def taxed_with(self, tax: Row) -> list[Row]:
        """The lines under a tax code, category and rate."""
        wanted = tuple(tax[name] for name in _TAX_OF_LINES)
        return [line for line in self.lines if tuple(line[name] for name in _TAX) == wanted]


# --------------------------------------------------------------------------------------------------- from line to total


def line_steps(document: Document, line: Row) -> list[Step]:
    """What becomes of a line's exact cost: rounding, deductions in their order, tax, and the document's total."""
    steps = [_rounding(document, line)]
    steps += _deduction_steps(document, line)
    steps += [_net(document, line)] if line["net_amount"] != line["amount"] else []
    steps += [_tax(document, line), _total(document, line)]
    return steps


def _rounding(document: Document, line: Row) -> Step:
    rounded = work("round", Of(line["cost"], "exact cost"), name=f"line {line['line_number']}", unit=document.currency,
                   places=document.places, rounding="half-up", at_least=document.places)  # fmt: skip
    must_equal(f"line {line['line_number']}", rounded.result, line["amount"])
    left = work("sum", Of(rounded.result), Of(-line["cost"]), name="rounding", unit=document.currency)
    must_equal(f"the rounding of line {line['line_number']}", left.result, line["rounding"])
    if not left.result:
        return Step("rounding", "Line", ("Nothing to round.",), (), (rounded,))
    return Step("rounding", "Line", ("The difference is kept as a charge of kind rounding.",), (), (rounded, left))


def _deduction_steps(document: Document, line: Row) -> list[Step]:
    return [
        _share_of(document, deducted, line)
        for deducted in document.deducted
        if line["line_number"] in deducted.bases and deducted.bases[line["line_number"]].taken
    ]


_WORDS = {"discount": "Discount", "commitment": "Discount of a commitment", "credit": "Promotional credit"}


def _share_of(document: Document, deducted: Deducted, line: Row) -> Step:
    base = deducted.bases[line["line_number"]]
    currency, places = document.currency, document.places
    says = [f"{deducted.name} ({deducted.source_id})."]
    workings = [deducted.whole]
    if base.covered is not None:
        says.append(
            f"Valid for part of the month: it is on the part of {shown(base.left, places)} that was used then,"
            f" {shown(base.covered, places)} of the exact cost of {shown(line['cost'], places)}."
        )
    if len(deducted.bases) > 1:
        says.append(
            f"It is spread over {len(deducted.bases):,} lines in the smallest amounts of {currency}, pro rata; what"
            " rounding down leaves goes to the lines that lost most by it."
        )
        share = work(
            "pro_rata", Of(deducted.whole.result), Of(base.base, "this line"), Of(deducted.base_total, "all of them"),
            name="its share", unit=currency, places=places, rounding="up" if base.spread.rounded_up else "down",
            at_least=places,
        )  # fmt: skip
        must_equal(f"the share of line {line['line_number']}", share.result, base.spread.share)
        workings.append(share)
    if base.taken < base.spread.share:
        says.append("No line gives more than it has left.")
    workings.append(
        work("sum", Of(base.left, "left of the line"), Of(-base.taken, "its share"), name="left", unit=currency,
             at_least=places)
    )  # fmt: skip
    return Step(deducted.kind, _WORDS[deducted.kind], tuple(says), (), tuple(workings))


def _net(document: Document, line: Row) -> Step:
    net = work(
        "sum", Of(line["amount"], "line"),
        *(Of(line[f"{kind}_amount"], name) for kind, name in (("discount", "discounts"), ("commitment", "commitments"),
          ("credit", "credits")) if line[f"{kind}_amount"]),
        name="taxed", unit=document.currency, at_least=document.places,
    )  # fmt: skip
    must_equal(f"the net amount of line {line['line_number']}", net.result, line["net_amount"])
    return Step("net", "What is taxed", (), (), (net,))


def _tax(document: Document, line: Row) -> Step:
    currency, places = document.currency, document.places
    says = [_which_tax(document, line)]
    workings: list[Working] = []
    if document.invoice["origin"] == "hand":
        says.append("Of a credit note by hand: the rate on all that was credited by then, less what was given back.")
        return Step("tax", "Tax", tuple(says))
    taxes = document.tax_of(line)
    if len(taxes) == 1:
        lines = document.taxed_with(taxes[0])
        others = total(other["net_amount"] for other in lines if other["line_number"] != line["line_number"])
        base = work("sum", Of(line["net_amount"], "this line"),
                    *([Of(others, _others(len(lines) - 1))] if len(lines) > 1 else []),
                    name="base", unit=currency, at_least=places)  # fmt: skip
        must_equal(f"the base of tax {taxes[0]['tax_code']}", base.result, taxes[0]["base_amount"])
        workings += [base, tax_working(document, taxes[0])]
    for tax in taxes:
        says += [f"“{tax['note']}”"] if tax["note"] else []
    return Step("tax", "Tax", tuple(says), (), tuple(workings))


def _others(count: int) -> str:
    return f"{count:,} other {'line' if count == 1 else 'lines'}"


def tax_working(document: Document, tax: Row) -> Working:
    """Rate on base, rounded once."""
    computed = work(
        "percent", Of(tax["base_amount"]), Of(tax["rate"], unit="%"), name="tax", unit=document.currency,
        places=document.places, rounding="half-up", at_least=document.places,
    )  # fmt: skip
    must_equal(f"tax {tax['tax_code']}", computed.result, tax["tax_amount"])
    return computed


def _which_tax(document: Document, line: Row) -> str:
    if line["line_kind"] == "correction":
        return f"{_tax_name(line)}: that of the month that is corrected."
    payer = document.invoice["billing_account_id"]
    rows = document.book.accounts.filter(document.book.accounts["account_id"] == payer)
    account = rows.row(0, named=True) if rows.height else {"tax_code": None, "country": "?", "state": None}
    why = (
        f"the tax code of account {payer}" if account["tax_code"] else
        f"by its country {account['country']}{' and state ' + account['state'] if account['state'] else ''}"
    )  # fmt: skip
    return f"{_tax_name(line)}: {why}, category {line['tax_category']}, valid on the last day of the month."


def _tax_name(line: Row) -> str:
    return f"{line['tax_code']}, {shown(line['tax_rate'])} %"


def _total(document: Document, line: Row) -> Step:
    return Step(
        "total", f"The {document.what}",
        (f"Line {line['line_number']} of {len(document.lines):,}.",), (),
        total_workings(document, line),
    )  # fmt: skip


def total_workings(document: Document, line: Row | None = None) -> tuple[Working, ...]:
    """Net amounts → untaxed → total → due, each held against the document."""
    invoice, currency = document.invoice, document.currency
    shared: dict[str, Any] = {"unit": currency, "at_least": document.places}
    parts = [
        Of(
            total(each["net_amount"] for each in document.lines),
            f"{len(document.lines):,} {'line' if len(document.lines) == 1 else 'lines'}",
        )
    ]
    if line is not None:
        others = [each for each in document.lines if each["line_number"] != line["line_number"]]
        parts = [Of(line["net_amount"], "this line")]
        if others:
            parts.append(Of(total(each["net_amount"] for each in others), _others(len(others))))
    untaxed = work("sum", *parts, name="before tax", **shared)
    must_equal("the amount before tax", untaxed.result, invoice["untaxed_amount"])
    taxes = total(tax["tax_amount"] for tax in document.taxes)
    with_tax = work("sum", Of(untaxed.result, "before tax"), Of(taxes, "tax"), name="total", **shared)
    must_equal("the total", with_tax.result, invoice["total_amount"])
    workings = [untaxed, with_tax]
    prepaid = [credit for credit in document.credits if credit["kind"] == "prepaid"]
    if prepaid:
        due = work("sum", Of(with_tax.result, "total"), *(Of(-c["amount"], f"prepaid {c['credit_id']}")
                   for c in prepaid), name="due", **shared)  # fmt: skip
        must_equal("what is due", due.result, invoice["due_amount"])
        workings.append(due)
    return tuple(workings)


# ---------------------------------------------------------------------------------------------------- the document


def document_steps(document: Document, *, most: int, ask: str) -> list[Step]:
    """An invoice from its lines to what is due.

    ``ask``: how a line is asked for, ``{line}`` in it.
    """
    steps = [_lines_step(document, most=most, ask=ask)]
    if document.deductions:
        steps.append(_deductions_step(document, most=most))
    steps.append(_taxes_step(document))
    prepaid = [credit for credit in document.credits if credit["kind"] == "prepaid"]
    if prepaid:
        steps.append(_prepaid_step(document, prepaid))
    steps.append(Step("total", "Total", (), (), total_workings(document)))
    return steps


def _lines_step(document: Document, *, most: int, ask: str) -> Step:
    currency, places = document.currency, document.places
    groups: dict[tuple[str, str], list[Row]] = {}
    for line in document.lines:
        groups.setdefault((line["account_id"], _group(line)), []).append(line)
    several = len({line["account_id"] for line in document.lines}) > 1
    rows: list[tuple[Cell, ...]] = [
        (f"{account} · {name}" if several else name, len(lines), total(line["amount"] for line in lines))
        for (account, name), lines in groups.items()
    ]
    columns = (
        Column("Account and service" if several else "Service"), Column("Lines", is_number=True, adds_up=True),
        Column(currency, is_number=True, at_least=places, adds_up=True),
    )  # fmt: skip
    by_service = largest_first(columns, rows, most=most, by=2)
    rounding = work("sum", Of(total(line["rounding"] for line in document.lines)), name="rounding of all lines",
                    unit=currency)  # fmt: skip
    must_equal("the rounding", rounding.result, document.invoice["rounding"])
    must_equal("the subtotal", total(line["amount"] for line in document.lines), document.invoice["subtotal_amount"])
    tables = [by_service] if len(groups) > 1 else []
    return Step("lines", "Lines", (), (*tables, lines_table(document, document.lines, most=most, ask=ask)),
                (rounding,) if rounding.result else ())  # fmt: skip


def lines_table(document: Document, lines: Sequence[Row], *, most: int, ask: str, title: str = "") -> Table:
    """The largest lines, and how to ask for each."""
    rows: list[tuple[Cell, ...]] = [
        (line_title(line), line["amount"], line["net_amount"], ask.format(line=line["line_number"])) for line in lines
    ]
    columns = (
        Column("Line"), Column(document.currency, is_number=True, at_least=document.places, adds_up=True),
        Column("Net", is_number=True, at_least=document.places, adds_up=True), Column("Explain with"),
    )  # fmt: skip
    return largest_first(columns, rows, most=most, by=1, thing="lines", title=title or "Largest lines")


_OTHER_KINDS = {"recurring": "Fees", "adjustment": "Adjustments", "commitment": "Missing of commitments",
                "correction": "Corrections", "usage": "Usage"}  # fmt: skip


def _group(line: Row) -> str:
    if line["line_kind"] in ("usage", "recurring") and line["service"]:
        return str(line["service"])
    return _OTHER_KINDS[line["line_kind"]]


def line_title(line: Row) -> str:
    """``12  Virtual machine S1, eu-paris, project Shop``."""
    name = line["description"] if line["line_kind"] in ("adjustment", "correction", "commitment") else None
    name = name or line["sku_name"] or line["description"] or line["line_kind"]
    parts = [str(name), *(str(line[key]) for key in ("region", "price_id") if line[key])]
    project = line["project_name"] or line["project_id"]
    return f"{line['line_number']}  {', '.join(parts)}{f' · {project}' if project else ''}"


def _deductions_step(document: Document, *, most: int) -> Step:
    currency, places = document.currency, document.places
    steps = []
    for deducted in document.deducted:
        taken = total(base.taken for base in deducted.bases.values())
        rows: list[tuple[Cell, ...]] = [
            (line_title(document.line(base.line_number)), base.base, -base.taken) for base in deducted.bases.values()
        ]
        columns = (
            Column("Line"), Column("On", is_number=True, at_least=places, adds_up=True),
            Column("Off", is_number=True, at_least=places, adds_up=True),
        )  # fmt: skip
        off = work("sum", Of(-taken), name="taken off", unit=currency, at_least=places)
        same = taken == deducted.whole.result
        steps.append(
            Step(deducted.kind, f"{_WORDS[deducted.kind]} {deducted.source_id}", (f"{deducted.name}.",),
                 (largest_first(columns, rows, most=min(most, 5), by=2, thing="lines"),),
                 (deducted.whole,) if same else (deducted.whole, off))
        )  # fmt: skip
    workings = []
    for kind in ("discount", "commitment", "credit"):
        amounts = [-base.taken for d in document.deducted if d.kind == kind for base in d.bases.values()]
        stored = document.invoice[f"{kind}_amount"]
        must_equal(f"the {kind}s", total(amounts), stored)
    workings.append(
        work("sum", Of(document.invoice["subtotal_amount"], "subtotal"),
             *(Of(document.invoice[f"{kind}_amount"], f"{kind}s") for kind in ("discount", "commitment", "credit")
               if document.invoice[f"{kind}_amount"]),
             name="before tax", unit=currency, at_least=places)
    )  # fmt: skip
    must_equal("the amount before tax", workings[-1].result, document.invoice["untaxed_amount"])
    return Step("deductions", "Discounts, commitments, credits", ("In the order in which they are taken off.",), (),
                tuple(workings), tuple(steps))  # fmt: skip


def _taxes_step(document: Document) -> Step:
    if document.invoice["origin"] == "hand":
        said = "Per rate: the rate on all that was credited of the invoice by now, less what was given back before."
        return Step("tax", "Tax", (said,), (_tax_table(document),))
    for tax in document.taxes:
        tax_working(document, tax)
        base = total(line["net_amount"] for line in document.taxed_with(tax))
        if len([t for t in document.taxes if all(t[n] == tax[n] for n in _TAX_OF_LINES)]) == 1:
            must_equal(f"the base of tax {tax['tax_code']}", base, tax["base_amount"])
    workings = tuple(tax_working(document, tax) for tax in document.taxes) if len(document.taxes) == 1 else ()
    notes = tuple(f"“{note}”" for note in dict.fromkeys(tax["note"] for tax in document.taxes if tax["note"]))
    return Step("tax", "Tax", ("Once per rate, rounded half up.", *notes), (_tax_table(document),), workings)


def _tax_table(document: Document) -> Table:
    places = document.places
    columns = (
        Column("Tax"), Column("Kind"), Column("Rate, %", is_number=True),
        Column("Base", is_number=True, at_least=places, adds_up=True),
        Column(f"Tax, {document.currency}", is_number=True, at_least=places, adds_up=True),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (f"{tax['tax_code']} {tax['category']}", tax["kind"].replace("_", " "), tax["rate"], tax["base_amount"],
         tax["tax_amount"])
        for tax in document.taxes
    ]  # fmt: skip
    return largest_first(columns, rows, most=50, by=4)


def _prepaid_step(document: Document, prepaid: Sequence[Row]) -> Step:
    places = document.places
    columns = (
        Column("Prepaid credit"), Column("Before", is_number=True, at_least=places),
        Column("Pays", is_number=True, at_least=places, adds_up=True), Column("Left", is_number=True, at_least=places),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for credit in prepaid:
        left = total((credit["balance_before"], -credit["amount"]))
        must_equal(f"what is left of credit {credit['credit_id']}", left, credit["balance_after"])
        rows.append((f"{credit['description']} ({credit['credit_id']})", credit["balance_before"], credit["amount"],
                     credit["balance_after"]))  # fmt: skip
    return Step("prepaid", "Paid in advance", ("What expires soonest is used first.",),
                (largest_first(columns, rows, most=50, by=2, key=lambda _: 0),))  # fmt: skip


# ---------------------------------------------------------------------------------------------- lines that are no usage


def recurring_steps(document: Document, line: Row, fee: Row, *, days: int, days_in_month: int, when: str) -> list[Step]:
    """A monthly fee, by days where it is not valid all month."""
    currency, places = document.currency, document.places
    said = f"Fee {fee['recurring_id']} of the book: {shown(fee['amount'], places)} {currency} a month, {when}."
    prorated = work("pro_rata", Of(fee["amount"], "a month", currency), *_days(days, days_in_month), name="fee",
                    unit=currency, places=places, rounding="half-up", at_least=places)  # fmt: skip
    must_equal(f"fee {fee['recurring_id']}", prorated.result, line["amount"])
    says = (said, "A day counts if its local noon is within the validity.") if days != days_in_month else (said,)
    return [Step("recurring", "Fee", says, (), (prorated,))]


def _days(valid: int, of_month: int) -> tuple[Of, Of]:
    return (Of(Decimal(valid), "days it is valid", is_count=True),
            Of(Decimal(of_month), "days of the month", is_count=True))  # fmt: skip


def adjustment_steps(document: Document, line: Row, adjustment: Row) -> list[Step]:
    """An amount that a person decided."""
    said = [f"Adjustment {adjustment['adjustment_id']}, decided by {adjustment['author']}: “{adjustment['reason']}”."]
    if adjustment["invoice_ref"]:
        said.append(f"It is about invoice {adjustment['invoice_ref']}.")
    amount = work("round", Of(adjustment["amount"], "amount in the book"), name="adjustment", unit=document.currency,
                  places=document.places, rounding="half-up", at_least=document.places)  # fmt: skip
    must_equal(f"adjustment {adjustment['adjustment_id']}", amount.result, line["amount"])
    return [Step("adjustment", "Adjustment", tuple(said), (), (amount,))]


def shortfall_steps(document: Document, line: Row, commitment: Row, eligible: Sequence[Row], *, most: int,
                    ask: str) -> list[Step]:  # fmt: skip
    """What is missing of a commitment: the promised amount, less the usage that counts towards it.

    ``commitment``: row of the book. ``eligible``: usage lines in its scope.
    """
    currency, places = document.currency, document.places
    ledger = next(row for row in document.commitments if row["commitment_id"] == line["source_id"])
    shared: dict[str, Any] = {"unit": currency, "at_least": places}
    promised = work("pro_rata", Of(commitment["amount"], "a month"), *_days(ledger["days"], ledger["days_in_month"]),
                    name="committed to", places=places, rounding="half-up", **shared)  # fmt: skip
    must_equal(f"commitment {line['source_id']}", promised.result, ledger["committed_amount"])
    counted = total(each["amount"] for each in eligible)
    must_equal(f"what counts towards commitment {line['source_id']}", counted, ledger["eligible_amount"])
    missing = work("sum", Of(promised.result, "committed to"), Of(-counted, "used"), name="missing", **shared)
    must_equal(f"what is missing of commitment {line['source_id']}", missing.result, line["amount"])
    tables = (lines_table(document, eligible, most=most, ask=ask, title="Usage that counts"),) if eligible else ()
    says = (f"{commitment['note']} ({commitment['commitment_id']}).",
            "What counts is usage in its scope, at the prices that applied, before discounts.")  # fmt: skip
    return [Step("commitment", "Missing of the commitment", says, tables, (promised, missing))]


def correction_steps(document: Document, line: Row, billed: Sequence[tuple[str, Row]], correct: Row | None, *,
                     ask: str) -> list[Step]:  # fmt: skip
    """What a line of a closed month should have been, less what was billed for it so far.

    Args:
        document: the document that bills the difference.
        line: its line.
        billed: name of each document that billed the same before, and its line.
        correct: the line as it should have been; none where there should be none.
        ask: how a line of another document is asked for, ``{document}`` and ``{line}`` in it.
    """
    currency, places = document.currency, document.places
    columns = (
        Column("Billed on"), Column("Quantity", is_number=True), Column("Unit price", is_number=True, at_least=2),
        Column("Amount", is_number=True, at_least=places), Column("Discounts", is_number=True, at_least=places),
        Column("Net", is_number=True, at_least=places, adds_up=True), Column("Explain with"),
    )  # fmt: skip

    def row(name: str, each: Row, why: str) -> tuple[Cell, ...]:
        return (name, each["pricing_quantity"], each["unit_price"], each["amount"], _discounted(each),
                total((each["amount"], _discounted(each))), why)  # fmt: skip

    was = [
        row(f"{name}, line {each['line_number']}", each, ask.format(document=name, line=each["line_number"]))
        for name, each in billed
    ]
    tables = [largest_first(columns, was, most=50, by=5, title="What was billed", key=lambda _: 0)] if was else []
    if correct is not None:
        tables.append(Table(columns, (row(f"{line['corrects_period']} rated again", correct, ""),),
                            title="What it should be"))  # fmt: skip
    should = total((correct["amount"], _discounted(correct))) if correct is not None else ZERO
    so_far = total(total((each["amount"], _discounted(each))) for _, each in billed)
    difference = work("sum", Of(should, "should be"), Of(-so_far, "was billed"), name="correction", unit=currency,
                      at_least=places)  # fmt: skip
    must_equal(f"line {line['line_number']}", difference.result, line["amount"])
    closed = line["corrects_period"]
    says = [
        f"{line['description']}.",
        f"{closed} is closed: the difference is billed here, before credits, with the tax of that month.",
    ]
    if not was:
        says.append("Nothing was billed for it before.")
    if correct is None:
        says.append("With the usage and the book of today there is no such line.")
    return [Step("correction", "Correction", tuple(says), tuple(tables), (difference,))]


def _discounted(line: Row) -> Decimal:
    return total((line["discount_amount"], line["commitment_amount"]))


def credited_steps(document: Document, line: Row, original: str, *, ask: str) -> list[Step]:
    """A line of a credit note that a person made."""
    said = (f"Credited by hand: {line['description']}.",
            f"It repeats line {line['line_number']} of invoice {original}: {ask}.")  # fmt: skip
    amount = work("sum", Of(line["amount"], "credited"), name="credited", unit=document.currency,
                  at_least=document.places)  # fmt: skip
    return [Step("credited", "Credit note", said, (), (amount,))]
