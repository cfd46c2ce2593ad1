-- Purpose: schema of the API's own store, version 2: budgets with their alerts, electronic addresses, redeemed coupons.
--          Runs and alerts read them as rows of the book (io/customer_rows.py, book/customers.py).
CREATE TABLE budgets (
    budget_id TEXT PRIMARY KEY, -- UUID
    account_id TEXT NOT NULL, -- the account that pays
    amount INTEGER NOT NULL CHECK (amount > 0), -- whole units of the currency, with tax, a month
    currency TEXT NOT NULL,
    is_enabled INTEGER NOT NULL CHECK (is_enabled IN (0, 1)),
    valid_from TEXT NOT NULL, -- the first month that it is for
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    changed_by TEXT NOT NULL -- access key
) STRICT;
CREATE INDEX budgets_account ON budgets (account_id);

CREATE TABLE budget_alerts (
    alert_id TEXT PRIMARY KEY, -- UUID
    budget_id TEXT NOT NULL REFERENCES budgets ON DELETE CASCADE,
    threshold INTEGER NOT NULL CHECK (threshold > 0), -- percent of the amount
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;
CREATE INDEX budget_alerts_budget ON budget_alerts (budget_id);

CREATE TABLE budget_notifications (
    notification_id TEXT PRIMARY KEY, -- UUID
    alert_id TEXT NOT NULL REFERENCES budget_alerts ON DELETE CASCADE,
    channel TEXT NOT NULL CHECK (channel IN ('sms', 'email', 'webhook')),
    recipients TEXT NOT NULL, -- JSON list of texts
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;
CREATE INDEX budget_notifications_alert ON budget_notifications (alert_id);

CREATE TABLE electronic_addresses (
    address_id TEXT PRIMARY KEY, -- UUID
    account_id TEXT NOT NULL, -- the account that pays
    value TEXT NOT NULL, -- scheme:identifier, code list EAS
    starts_at TEXT NOT NULL, -- first instant at which it holds
    stops_at TEXT, -- first instant at which it no longer does
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;
CREATE INDEX electronic_addresses_account ON electronic_addresses (account_id);

-- What was granted stays as it was, whatever becomes of the row in book/coupons.csv.
CREATE TABLE coupon_redemptions (
    redemption_id TEXT PRIMARY KEY, -- UUID
    coupon_id TEXT NOT NULL,
    account_id TEXT NOT NULL, -- the account that pays
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    granted_on TEXT NOT NULL,
    expires_on TEXT,
    note TEXT NOT NULL,
    redeemed_by TEXT NOT NULL, -- access key
    UNIQUE (coupon_id, account_id)
) STRICT;
CREATE INDEX coupon_redemptions_account ON coupon_redemptions (account_id);
