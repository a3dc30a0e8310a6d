-- Whoever works with these tables need not own them, and gets from the owner only what the owner has kept.

-- What was told, heard or done about a dead letter is added and, one day, forgotten, but never changed.
revoke update, truncate on outbox, outbox_archive, inbox, dead_letter_actions from current_user;

-- What the relay that reads the log is told: only an owner can make it. Without `wal_level = logical` it has no effect.
do $$
begin
    set local client_min_messages = error;
    if not exists (select from pg_publication where pubname = 'outbox_relay') then
        create publication outbox_relay for table outbox with (publish = 'insert');
    end if;
end $$;

-- Begins anew, whatever an earlier replay has left: empty tables like the live ones, down to the names of indexes,
-- so that a later migration finds what it looks for, and down to everybody's rights.
create or replace function replay_prepare(wanted text[]) returns void language plpgsql as $$
declare
    name text;
    live regclass;
    part text;
begin
    set local client_min_messages = warning;
    drop schema if exists replay cascade;
    create schema replay;
    foreach name in array wanted loop
        live := format('public.%I', name)::regclass;
        execute format('create table replay.%1$I (like public.%1$I including all excluding indexes)', name);
        for part in select unnest(reloptions) from pg_class where oid = live loop
            execute format('alter table replay.%I set (%s)', name, part);
        end loop;
        for part in
            select format('add constraint %I %s', conname, pg_get_constraintdef(oid))
            from pg_constraint where conrelid = live and contype in ('p', 'u', 'x')
        loop
            execute format('alter table replay.%I %s', name, part);
        end loop;
        for part in
            select pg_get_indexdef(indexrelid) from pg_index
            where indrelid = live and not exists (select from pg_constraint where conindid = indexrelid)
        loop
            execute replace(part, format(' ON public.%I ', name), format(' ON replay.%I ', name));
        end loop;
        execute format('revoke all on replay.%I from current_user', name);
        for part in
            select format('grant %s on replay.%I to %s', privilege_type, name,
                          case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end)
            from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner))) where oid = live
        loop
            execute part;
        end loop;
    end loop;
end $$;
