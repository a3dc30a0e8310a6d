-- What happened to each payment, in order. A payment's state is the fold of its rows.
create table payment_events (
    order_id uuid        not null,
    version  bigint      not null,
    type     text        not null,
    data     jsonb       not null,
    at       timestamptz not null default now(),
    primary key (order_id, version)
);

-- One row an order: the fold of its events, and what the errands must remember.
-- VOIDED without an amount is a tombstone: undone before it was asked for.
create table payments (
    order_id        uuid    primary key,
    payment_id      uuid    not null,
    state           text    not null
                    check (state in ('PENDING', 'SUCCEEDED', 'DECLINED', 'TIMED_OUT', 'REFUNDING', 'REFUNDED', 'VOIDED')),
    -- Minor units of the currency.
    amount          bigint  not null check (amount >= 0),
    captured        bigint  not null default 0,
    refunded        bigint  not null default 0,
    currency        text    not null,
    -- A token of the gateway's, never a card number.
    payment_method  text    not null,
    expires_at      timestamptz,
    gateway_ref     text,
    cause           text    check (cause in ('SHIPPING_FAILED', 'ORDER_CANCELLED', 'CHARGED_TOO_LATE', 'GOODS_RETURNED')),
    -- Whether the order wants its payment undone, and whether it was told that it is.
    undo            text    not null check (undo in ('NONE', 'WANTED', 'ANSWERED')),
    -- TIMED_OUT, but the gateway may have charged: it is asked until it answers.
    unresolved      boolean not null default false,
    -- The version of the last event.
    version         bigint  not null,

    -- From when on an errand may take it; in the future while one holds it.
    due_at          timestamptz,
    -- How often the gateway was asked about the charge, counted before each call, and about the refund.
    attempts        integer not null default 0,
    refund_attempts integer not null default 0,
    -- A call that could charge began and was never answered: it may still be on its way.
    doubt           boolean not null default false,
    -- Why the last attempt did not settle it.
    trouble         text,
    -- When the charge is given up.
    give_up_at      timestamptz,
    -- The span of the event that asked for the work; the errands go on from there.
    -- The event that asked for the work, and its trace.
    caused_by       uuid,
    traceparent     text,
    tracestate      text,
    constraint payments_capture_all_or_nothing check (captured in (0, amount)),
    constraint payments_refund_all_or_nothing check (refunded in (0, captured)),
    constraint payments_refund_once check ((refunded > 0) = (state = 'REFUNDED')),
    constraint payments_know_their_charge check (captured = 0 or gateway_ref is not null),
    constraint payments_void_took_nothing check (captured = 0 or state in ('SUCCEEDED', 'REFUNDING', 'REFUNDED'))
) with (fillfactor = 80);
create index payments_to_charge on payments (due_at) where due_at is not null and state <> 'REFUNDING';
create index payments_to_refund on payments (due_at) where due_at is not null and state = 'REFUNDING';

-- Double entry: the rows of a transaction debit as much as they credit.
create table ledger (
    id             bigint      generated always as identity primary key,
    transaction_id uuid        not null,
    account        text        not null check (account in ('gateway_receivable', 'sales')),
    -- Minor units.
    debit          bigint      not null check (debit >= 0),
    credit         bigint      not null check (credit >= 0),
    order_id       uuid        not null,
    at             timestamptz not null default now(),
    constraint ledger_one_side check ((debit = 0) <> (credit = 0)),
    -- What was booked is never booked again.
    constraint ledger_once unique (transaction_id, account)
);
create index ledger_order on ledger (order_id, id);

-- Notices of the gateway that were acted on.
create table gateway_notices (
    id         text        primary key,
    noticed_at timestamptz not null default now()
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name;
end $$;
create trigger payment_events_append_only before update or delete or truncate on payment_events
    for each statement execute function refuse_change();
create trigger ledger_append_only before update or delete or truncate on ledger
    for each statement execute function refuse_change();
