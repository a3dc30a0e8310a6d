-- What was paid back of what completed orders cost, in minor units; revenue is less that already.
alter table sales add column refunded bigint not null default 0;
