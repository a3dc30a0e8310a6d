-- Every state that an order was ever in, so that whoever follows it misses none and hears of none twice.
create table order_states (
    order_id   uuid        not null,
    -- The order's version when it got there.
    version    bigint      not null,
    state      text        not null,
    reason     text,
    changed_at timestamptz not null default now(),
    primary key (order_id, version)
);

-- What is known of the orders there are: where they stand now.
insert into order_states (order_id, version, state, reason, changed_at)
select id, version, state, reason, updated_at from orders;
