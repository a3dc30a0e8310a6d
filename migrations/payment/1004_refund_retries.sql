-- How often an operator had a refused refund tried again: each time under an idempotency key of its own, because a
-- gateway repeats under the old one that it will not.
alter table return_refunds add column retries integer not null default 0;
