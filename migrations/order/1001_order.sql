-- Orders, the facts each order has seen, and a copy of the catalogue for when inventory is away.

create table orders (
    id              uuid        primary key,
    customer_id     uuid        not null,
    customer_email  text        not null,
    lines           jsonb       not null,
    total           bigint      not null check (total >= 0),
    currency        text        not null,
    ship_to         jsonb       not null,
    payment_method  text        not null,
    stock_check     text        not null check (stock_check in ('passed', 'skipped')),
    -- Derived from the facts below, so that lists and the sweeper can ask for it.
    state           text        not null,
    reason          text,
    -- The facts this order has seen: what its state is a function of.
    facts           jsonb       not null,
    version         bigint      not null,
    -- The order is given up unless paid by then.
    pay_by          timestamptz not null,
    -- When the sweeper is to look at it; null once it cannot be overdue any more.
    due_at          timestamptz,
    -- What the order waits for: another service, or a parcel on its way; null once nothing is owed any more.
    waits_for       text        check (waits_for in ('SERVICES', 'PARCEL')),
    -- Since when that takes too long bit by bit; in the future while the customer may still pay.
    waits_since     timestamptz,
    traceparent     text,
    tracestate      text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
) with (fillfactor = 80);
create index orders_due on orders (due_at) where due_at is not null;
create index orders_open on orders (state, waits_for, waits_since) where waits_since is not null;
create index orders_by_customer on orders (customer_id, id desc);
create index orders_by_state on orders (state, id desc);

-- Whether an order has stood still for longer than it may, so that a human has to look at it.
create function needs_attention(waits_for text, waits_since timestamptz, services_within_ms bigint,
                                parcel_within_ms bigint) returns boolean language sql stable
    return coalesce(waits_since + case waits_for when 'PARCEL' then parcel_within_ms else services_within_ms end
                                  * interval '1 millisecond' <= now(), false);

-- Every event an order heard or told, and each step of its state: the timeline and the saga.
create table timeline (
    order_id     uuid        not null,
    event_id     uuid        not null,
    event_type   text        not null,
    producer     text        not null,
    sequence     bigint      not null,
    causation_id uuid,
    occurred_at  timestamptz not null,
    trace_id     text        not null,
    -- The order's version once the event had been folded in.
    version      bigint      not null,
    primary key (order_id, event_id)
);

-- What was answered under an idempotency key, written with the order it belongs to.
create table idempotency_keys (
    -- Customer and key: two customers may use the same key.
    scope       text        primary key,
    -- A hash of the request: the same key with another body is an error.
    fingerprint uuid        not null,
    order_id    uuid        not null,
    status      integer     not null,
    body        text        not null,
    created_at  timestamptz not null default now()
);
create index idempotency_keys_created_at on idempotency_keys (created_at);

-- The catalogue as inventory's events told it; the greatest revision wins, whatever came first.
create table catalogue (
    sku       text   primary key,
    name      text   not null,
    price     bigint not null,
    currency  text   not null,
    available bigint not null,
    revision  bigint not null
);
