-- What can be sold, and how much of it there is. Checks are the last line against overselling.
create table products (
    sku      text   primary key,
    name     text   not null,
    -- Minor units of the currency.
    price    bigint not null check (price >= 0),
    currency text   not null check (currency ~ '^[A-Z]{3}$'),
    on_hand  bigint not null default 0 check (on_hand >= 0),
    reserved bigint not null default 0 check (reserved >= 0),
    -- Counts changes of name, price and currency; the entity tag.
    version  bigint not null,
    -- Counts changes of anything; what events carry, so that the newest wins whatever order they come in.
    revision bigint not null,
    constraint products_never_oversold check (reserved <= on_hand)
) with (fillfactor = 80);

-- One row an order. RELEASED without lines is a tombstone: undone before it was done.
create table reservations (
    order_id       uuid   primary key,
    reservation_id uuid   not null,
    state          text   not null check (state in ('HELD', 'REJECTED', 'RELEASED', 'COMMITTED')),
    lines          jsonb  not null,
    version        bigint not null
) with (fillfactor = 80);

-- Why stock on hand changed; on_hand is always the sum of these.
create table stock_movements (
    id       bigint      generated always as identity primary key,
    sku      text        not null references products (sku),
    delta    bigint      not null,
    reason   text        not null,
    order_id uuid,
    moved_at timestamptz not null default now()
);
create index stock_movements_sku on stock_movements (sku);
