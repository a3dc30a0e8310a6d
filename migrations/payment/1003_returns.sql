-- One refund a return, beside the one of a whole order that is undone: a payment can be given back bit by bit.
create table return_refunds (
    return_id    uuid        primary key,
    -- Also the idempotency key at the gateway.
    refund_id    uuid        not null unique,
    order_id     uuid        not null,
    -- Minor units of the payment's currency.
    amount       bigint      not null check (amount >= 0),
    -- REFUSED: the gateway will not; an operator has to look.
    state        text        not null check (state in ('DUE', 'DONE', 'REFUSED')),
    -- From when on an errand may take it; in the future while one holds it.
    due_at       timestamptz,
    -- How often the gateway was asked, counted before each call.
    attempts     integer     not null default 0,
    -- Why the last attempt did not settle it.
    trouble      text,
    -- The event that asked for it, and its trace.
    caused_by    uuid,
    traceparent  text,
    tracestate   text,
    requested_at timestamptz not null default now(),
    state_since  timestamptz not null default now(),
    constraint return_refunds_wait_for_an_errand check ((due_at is not null) = (state = 'DUE'))
) with (fillfactor = 80);
create index return_refunds_order on return_refunds (order_id);
create index return_refunds_due on return_refunds (due_at) where state = 'DUE';
create index return_refunds_refused on return_refunds (return_id) where state = 'REFUSED';

alter table payments
    drop constraint payments_refund_all_or_nothing,
    drop constraint payments_refund_once,
    add constraint payments_refund_within_capture check (refunded between 0 and captured),
    add constraint payments_refunded_in_full check ((refunded > 0 and refunded = captured) = (state = 'REFUNDED'));
