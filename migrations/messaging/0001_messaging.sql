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
    events         json        not null
);
create index outbox_archive_published_at on outbox_archive (published_at);

-- Events whose effect is committed. UUIDv7 keys are ordered by time, so old rows go by key range.
create table inbox (
    consumer   text        not null,
    event_id   uuid        not null,
    handled_at timestamptz not null default now(),
    primary key (consumer, event_id)
);

-- Events that could not be handled ('dead'), and later events of the same subject, which wait ('parked').
create table dead_letters (
    id              bigint      generated always as identity primary key,
    consumer        text        not null,
    event_id        uuid        not null,
    state           text        not null check (state in ('dead', 'parked', 'redriven', 'discarded')),
    reason          text        not null,
    attempts        bigint      not null,
    event_type      text        not null,
    subject         text        not null,
    stream          text        not null,
    stream_sequence bigint      not null,
    headers         jsonb       not null,
    payload         bytea       not null,
    buried_at       timestamptz not null default now(),
    unique (consumer, event_id)
);
create index dead_letters_open on dead_letters (consumer, subject) where state in ('dead', 'parked');
