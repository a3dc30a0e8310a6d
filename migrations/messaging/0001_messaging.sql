-- What every service keeps for its messages: outbox, inbox and dead letters.

-- Decided, committed, not yet acknowledged by the broker. A hot table: what was published leaves it.
-- There is no cursor over `id`: whatever is here is still to be published, however late it committed.
create table outbox (
    id             bigint      generated always as identity primary key,
    -- The partition a relay must own to publish this row; all events of a subject share one.
    lane           smallint    not null,
    event_id       uuid        not null,
    event_type     text        not null,
    nats_subject   text        not null,
    subject        text        not null,
    -- Counts the events of one subject at this service: 1, 2, 3 … without gaps.
    sequence       bigint      not null,
    correlation_id text        not null,
    causation_id   uuid,
    occurred_at    timestamptz not null default now(),
    traceparent    text,
    tracestate     text,
    payload        text        not null
) with (
    -- It holds few rows that live, and leaves many behind: vacuum by their number, whatever the size.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000
);

-- The last sequence given to each subject. Its row lock makes the commits of one subject take turns,
-- so that a smaller outbox id of the same subject never commits later than a greater one.
create table outbox_sequence (
    subject  text   primary key,
    sequence bigint not null
) with (fillfactor = 80);

-- What was published, one row a batch, kept as long as the stream keeps its messages.
create table outbox_archive (
    id             bigint      generated always as identity primary key,
    published_at   timestamptz not null default now(),
    stream         text        not null,
    -- The stream sequence of the last event of the batch.
    stream_sequence bigint     not null,
    events         outbox[]    not null
);
create index outbox_archive_published_at on outbox_archive (published_at);
-- For the amnesia check: what is highest is what a broker forgets first.
create index outbox_archive_stream_sequence on outbox_archive (stream_sequence, id);
-- Half the price of the default, where the server was built with it.
do $$
begin
    alter table outbox_archive alter column events set compression lz4;
exception when feature_not_supported or invalid_parameter_value then
    null;
end
$$;

-- What was published, event by event.
create view outbox_published as
select archive.id as archive_id, archive.published_at, archive.stream, archive.stream_sequence, event.*
from outbox_archive archive cross join lateral unnest(archive.events) as event;

-- Events whose effect is committed. UUIDv7 keys are ordered by time, so old rows go by key range.
create table inbox (
    event_id   uuid        not null,
    consumer   text        not null,
    handled_at timestamptz not null default now(),
    primary key (event_id, consumer)
);

-- Events that could not be handled. One that was heard is in the inbox or open here, never both, never neither.
create table dead_letters (
    id              bigint      generated always as identity primary key,
    consumer        text        not null,
    event_id        uuid        not null,
    -- 'dead' waits for an operator, 'parked' for an earlier event of its subject, 'redriven' for its turn.
    state           text        not null check (state in ('dead', 'parked', 'redriven', 'discarded')),
    reason          text        not null,
    attempts        bigint      not null,
    event_type      text        not null,
    subject         text        not null,
    nats_subject    text        not null,
    stream          text        not null,
    stream_sequence bigint      not null,
    headers         jsonb       not null,
    payload         bytea       not null,
    buried_at       timestamptz not null default now(),
    -- Not to be tried before: spreads a redrive over time, and leases what is being tried.
    due_at          timestamptz not null default now(),
    -- How often a redrive was begun of which nothing came, not even a failure.
    begun           integer     not null default 0,
    -- When it was handled or discarded. Until then it is open, and later events of its subject are parked.
    closed_at       timestamptz,
    unique (event_id, consumer),
    check (case state when 'redriven' then true
                      when 'discarded' then closed_at is not null
                      else closed_at is null end)
);
create index dead_letters_open on dead_letters (consumer, subject, id) where closed_at is null;
create index dead_letters_due on dead_letters (consumer, due_at) where closed_at is null and state <> 'dead';

-- What was done about dead letters and what came of it; rows are only ever added.
create table dead_letter_actions (
    id          bigint      generated always as identity primary key,
    consumer    text        not null,
    event_id    uuid        not null,
    who         text        not null,
    what        text        not null check (what in ('redrive', 'discard', 'handled', 'failed')),
    -- Of a redrive: what the event was dead of. Of a discard: the operator's. Of a failure: the fault.
    reason      text,
    happened_at timestamptz not null default now()
);
create index dead_letter_actions_event_id on dead_letter_actions (event_id);
