-- What came back and can be sold again, once a return; without lines nothing of it could.
create table restocks (
    return_id    uuid        primary key,
    order_id     uuid        not null,
    lines        jsonb       not null,
    restocked_at timestamptz not null default now()
);
create index restocks_order on restocks (order_id);

-- The return that brought the pieces back.
alter table stock_movements add column return_id uuid;
