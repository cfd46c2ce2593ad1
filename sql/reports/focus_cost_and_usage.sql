-- Purpose: charges in the columns of FOCUS 1.4, Cost and Usage. Cost before tax, exact products on usage rows.
-- Grain: one charge.
-- Parameters: none.
SELECT
    charges.cost AS BilledCost,
    charges.billing_account_id AS BillingAccountId,
    payers.name AS BillingAccountName,
    charges.currency AS BillingCurrency,
    timezone('UTC', strptime(charges.period || '-01', '%Y-%m-%d') + INTERVAL 1 MONTH) AS BillingPeriodEnd,
    timezone('UTC', strptime(charges.period || '-01', '%Y-%m-%d')) AS BillingPeriodStart,
    CASE charges.charge_kind WHEN 'usage' THEN 'Usage' ELSE 'Adjustment' END AS ChargeCategory,
    NULL::VARCHAR AS ChargeClass,
    CASE charges.charge_kind WHEN 'usage' THEN skus.name ELSE 'Rounding of the invoice line: ' || skus.name END
        AS ChargeDescription,
    charges.charge_end AS ChargePeriodEnd,
    charges.charge_start AS ChargePeriodStart,
    'Usage-Based' AS ChargeFrequency,
    charges.contracted_cost AS ContractedCost,
    charges.contracted_unit_price AS ContractedUnitPrice,
    charges.cost AS EffectiveCost,
    charges.invoice_id AS InvoiceId,
    coalesce(charges.list_cost, charges.contracted_cost) AS ListCost,
    coalesce(charges.list_unit_price, charges.contracted_unit_price) AS ListUnitPrice,
    charges.usage_quantity AS ConsumedQuantity,
    charges.usage_unit AS ConsumedUnit,
    charges.pricing_quantity AS PricingQuantity,
    charges.pricing_unit AS PricingUnit,
    charges.region AS RegionId,
    charges.resource_id AS ResourceId,
    charges.resource_name AS ResourceName,
    skus.category AS ServiceCategory,
    skus.service AS ServiceName,
    charges.sku_id AS SkuId,
    charges.price_id AS SkuPriceId,
    charges.account_id AS SubAccountId,
    accounts.name AS SubAccountName,
    charges.tags AS Tags,
    charges.project_id AS x_ProjectId,
    charges.charge_kind AS x_ChargeKind,
    charges.run_id AS x_RunId
FROM charges
LEFT JOIN skus USING (sku_id)
LEFT JOIN accounts USING (account_id)
LEFT JOIN accounts AS payers ON payers.account_id = charges.billing_account_id
