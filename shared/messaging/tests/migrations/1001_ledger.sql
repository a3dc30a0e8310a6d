-- A small service for the tests of the messaging core: it counts what it heard about each order.
create table ledger (
    order_id uuid   primary key,
    seen     int    not null check (seen >= 0),
    version  bigint not null
);

-- One row for every unit of work that was committed.
create table units (
    id bigint generated always as identity primary key
);

-- A second writer of the same label breaks a constraint, however often it tries.
create table labels (
    label text primary key
);
insert into labels values ('taken');

-- Errands.
create table parcels (
    id     uuid        primary key,
    due_at timestamptz not null default now(),
    taken  int         not null default 0,
    sent   int         not null default 0
);
