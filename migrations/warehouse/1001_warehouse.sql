-- One row an order, so that its confirmation and its cancellation meet in one place however they race.
-- Without a shipment_id it is a tombstone: called off before it was scheduled.
create table shipments (
    order_id        uuid        primary key,
    shipment_id     uuid,
    state           text        not null
                    check (state in ('SCHEDULED', 'DISPATCHED', 'DELIVERED', 'FAILED', 'CANCELLED')),
    carrier         text,
    tracking        text,
    lines           jsonb       not null,
    -- Name and address: personal data, kept only until the carrier has the parcel or never will.
    ship_to         jsonb,
    -- Whether a cancellation was asked for and answered; it is answered once.
    cancel_answered boolean     not null,
    state_since     timestamptz not null default now(),
    -- From when on an errand may take it, but for the configured delay; in the future while one holds it.
    due_at          timestamptz,
    -- How often an errand took it in this state.
    attempts        integer     not null default 0,
    -- The span of the event that created the row; the errands go on from there.
    -- The event that the next step follows from, and the trace of the one that created the shipment.
    caused_by       uuid,
    traceparent     text,
    tracestate      text,
    version         bigint      not null,
    constraint shipments_tombstones_are_cancelled check (shipment_id is not null or state = 'CANCELLED'),
    constraint shipments_have_a_carrier check ((carrier is null) = (shipment_id is null)),
    constraint shipments_forget_the_address check ((ship_to is not null) = (state = 'SCHEDULED')),
    constraint shipments_are_tracked_when_sent check ((tracking is not null) = (state in ('DISPATCHED', 'DELIVERED'))),
    constraint shipments_cancelled_are_answered check (state <> 'CANCELLED' or cancel_answered),
    constraint shipments_wait_for_an_errand check ((due_at is not null) = (state in ('SCHEDULED', 'DISPATCHED')))
) with (fillfactor = 80);
create index shipments_due on shipments (state, due_at) where due_at is not null;
