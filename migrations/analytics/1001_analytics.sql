-- What was heard of each order. Everything below the catalogue is the sum of what these rows contribute.
create table orders (
    order_id              uuid   primary key,
    version               bigint not null,
    -- As placed; total in minor units of the currency.
    lines                 jsonb,
    total                 bigint,
    currency              text,
    -- Why it was cancelled.
    reason                text,
    -- Refund id → minor units.
    refunds               jsonb  not null,
    -- Template → whether the message was sent (or given up).
    notified              jsonb  not null,
    -- When each step was told, by its producer's clock.
    placed_at             timestamptz,
    reserved_at           timestamptz,
    rejected_at           timestamptz,
    paid_at               timestamptz,
    declined_at           timestamptz,
    timed_out_at          timestamptz,
    confirmed_at          timestamptz,
    scheduled_at          timestamptz,
    shipped_at            timestamptz,
    committed_at          timestamptz,
    delivered_at          timestamptz,
    completed_at          timestamptz,
    shipment_failed_at    timestamptz,
    shipment_cancelled_at timestamptz,
    voided_at             timestamptz,
    paid_back_at          timestamptz,
    released_at           timestamptz,
    cancelled_at          timestamptz,
    restocked_at          timestamptz,
    returned_at           timestamptz
) with (fillfactor = 70);
create index orders_latency on orders (completed_at) include (placed_at)
    where completed_at is not null and placed_at is not null;

-- The catalogue as last told: the greatest sequence of a sku wins.
create table products (
    sku       text   collate "C" primary key,
    name      text   not null,
    -- Minor units of the currency.
    price     bigint not null,
    currency  text   not null,
    available bigint not null,
    sequence  bigint not null
) with (fillfactor = 80);

-- How many orders reached a step; the detail is the reason of a cancellation, or the template of a message.
create table counters (
    step   text   not null,
    detail text   not null,
    count  bigint not null,
    primary key (step, detail)
) with (fillfactor = 50);

-- Completed orders, added up along three dimensions. Revenue is what they cost less what was paid back, in
-- minor units; by product it is what they cost, because a refund does not say what it is for.
create table sales (
    dimension text   not null check (dimension in ('total', 'minute', 'product')),
    -- Nothing; the minute of completion, 2026-11-21T10:05:00Z; the sku.
    key       text   collate "C" not null,
    currency  text   not null,
    orders    bigint not null,
    units     bigint not null,
    revenue   bigint not null,
    primary key (dimension, key, currency)
) with (fillfactor = 50);

-- One row: the newest event that was heard, and when it was handled.
create table progress (
    id         int         primary key check (id = 1),
    newest_at  timestamptz not null,
    handled_at timestamptz not null
) with (fillfactor = 50);
