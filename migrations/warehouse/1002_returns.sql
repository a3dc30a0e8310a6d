-- Goods that are to come back. What was announced stays as it was; what was found says in which condition it came.
create table returns (
    return_id   uuid        primary key,
    order_id    uuid        not null,
    state       text        not null check (state in ('AWAITED', 'RECEIVED', 'REJECTED')),
    lines       jsonb       not null,
    reason      text        not null,
    -- Per article, pieces and condition; none while it is awaited.
    found       jsonb,
    -- What is to be paid back, in minor units.
    refundable  bigint      not null default 0 check (refundable >= 0),
    state_since timestamptz not null default now(),
    -- From when on an errand may take it, but for the configured delay; in the future while one holds it.
    due_at      timestamptz,
    attempts    integer     not null default 0,
    -- The event that announced it, and its trace; the errand goes on from there.
    caused_by   uuid,
    traceparent text,
    tracestate  text,
    version     bigint      not null,
    constraint returns_are_looked_at_once check ((found is null) = (state = 'AWAITED')),
    constraint returns_wait_for_an_errand check ((due_at is not null) = (state = 'AWAITED')),
    constraint returns_refund_what_was_received check (refundable = 0 or state = 'RECEIVED')
) with (fillfactor = 80);
create index returns_order on returns (order_id);
create index returns_due on returns (due_at) where due_at is not null;
