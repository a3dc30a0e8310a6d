-- Whom to write to about an order, and what was ordered: OrderShipped, for one, does not say.
-- A row without an address keeps the place of an order whose OrderPlaced has not been heard yet.
create table recipients (
    order_id    uuid   primary key,
    customer_id uuid,
    email       text,
    lines       jsonb,
    -- Minor units of the currency.
    total       bigint,
    currency    text,
    version     bigint not null,
    constraint recipients_known_or_not check (num_nulls(customer_id, email, lines, total, currency) in (0, 5))
);

-- One row a message: a template is sent once an order. WAITING for the address, then PENDING until it is
-- SENT, or FAILED for good.
create table notifications (
    order_id        uuid        not null references recipients (order_id),
    template        text        not null check (template in ('order_confirmed', 'order_shipped', 'order_cancelled')),
    -- Follows from order and template; in the Message-ID, so that a message sent twice can be recognised.
    notification_id uuid        not null,
    state           text        not null check (state in ('WAITING', 'PENDING', 'SENT', 'FAILED')),
    variables       jsonb       not null,
    attempts        int         not null default 0,
    -- When it is to be tried (again); while it is being tried, the end of the lease.
    due_at          timestamptz not null,
    -- Set when it becomes PENDING: after this time, trouble is final.
    give_up_at      timestamptz,
    sent_at         timestamptz,
    message_id      text        not null,
    -- The event that asked for it, and its trace.
    caused_by       uuid,
    traceparent     text,
    tracestate      text,
    version         bigint      not null,
    primary key (order_id, template),
    constraint notifications_sent_at_once check ((state = 'SENT') = (sent_at is not null))
) with (fillfactor = 80);
create index notifications_due on notifications (due_at) where state = 'PENDING';
