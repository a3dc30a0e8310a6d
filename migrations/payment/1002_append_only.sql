-- What has happened is not changed: the service itself, which owns these tables, gives up the right to.
-- The triggers stay, for whoever has it all the same.
revoke update, delete, truncate on payment_events, ledger from current_user;
