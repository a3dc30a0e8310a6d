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
    traceparent     text,
    tracestate      text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
) with (fillfactor = 80);
create index orders_due on orders (due_at) where due_at is not null;
create index orders_by_customer on orders (customer_id, id desc);
create index orders_by_state on orders (state, id desc);

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
