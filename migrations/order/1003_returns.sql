-- What is known of the returns of an order, by return; with the facts, what its state is a function of. A column of its
-- own, so that a replica of the release before, which knows of no returns, cannot lose them.
alter table orders add column returns jsonb not null default '{}';
