-- What a replay asks of the database: tables beside the live ones in the schema `replay`, their comparison, and the
-- exchange. They are functions because a statement cannot be given the name of a table.

-- Begins anew, whatever an earlier replay has left: empty tables like the live ones, down to the names of indexes,
-- so that a later migration finds what it looks for.
create function replay_prepare(wanted text[]) returns void language plpgsql as $$
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
    end loop;
end $$;

-- A replay plans like any other session once it has filled its tables.
create function replay_analyze(wanted text[]) returns void language plpgsql as $$
declare
    name text;
begin
    foreach name in array wanted loop
        execute format('analyze replay.%I', name);
    end loop;
end $$;

-- Events that the service has heard, by inbox and dead letters, and the replay has not; with when it heard them.
create function replay_missing(service text) returns table (event_id uuid, heard_at timestamptz) language plpgsql as $$
begin
    return query
        select heard.event_id, heard.at from (
            select l.event_id, l.handled_at as at from public.inbox l where l.consumer = service
            union all
            select l.event_id, l.buried_at from public.dead_letters l where l.consumer = service and l.closed_at is null
        ) as heard
        where not exists (select from replay.inbox r where r.event_id = heard.event_id and r.consumer = service)
          and not exists (select from replay.dead_letters r where r.event_id = heard.event_id and r.consumer = service);
end $$;

-- How many of these events the service has not heard yet.
create function replay_ahead(service text, ids uuid[]) returns bigint language plpgsql as $$
begin
    return (
        select count(*) from unnest(ids) as wanted (event_id)
        where not exists (select from public.inbox l where l.event_id = wanted.event_id and l.consumer = service)
          and not exists (select from public.dead_letters l where l.event_id = wanted.event_id and l.consumer = service)
    );
end $$;

-- What an operator has discarded stays discarded, and a dead letter that the streams have lost stays a dead letter.
create function replay_carry_letters(service text, lost_too boolean) returns void language plpgsql as $$
begin
    update replay.dead_letters r set state = 'discarded', closed_at = l.closed_at
    from public.dead_letters l
    where l.consumer = service and l.state = 'discarded' and r.consumer = service and r.event_id = l.event_id
      and r.closed_at is null;
    insert into replay.dead_letters (consumer, event_id, state, reason, attempts, event_type, subject, nats_subject,
                                     stream, stream_sequence, headers, payload, buried_at, due_at, begun, closed_at)
    select consumer, event_id, state, reason, attempts, event_type, subject, nats_subject,
           stream, stream_sequence, headers, payload, buried_at, due_at, begun, closed_at
    from public.dead_letters l
    where consumer = service and (state = 'discarded' or lost_too and closed_at is null)
      and not exists (select from replay.inbox r where r.consumer = service and r.event_id = l.event_id)
    order by id on conflict do nothing;
    insert into replay.inbox (event_id, consumer)
    select event_id, consumer from replay.dead_letters where state = 'discarded' on conflict do nothing;
end $$;

-- Rows of which the live table and the replayed one say different things, by key, at most so many, and how many there
-- are. Columns that depend on how events were spread over batches are left out, and a sum that is nothing is as good as
-- none. With a range, only rows of orders in it.
create function replay_differences(name text, ignored text[], sums text[], from_order uuid, to_order uuid, most bigint)
returns table (key text, live jsonb, rebuilt jsonb, total bigint) language plpgsql as $$
declare
    keys text[] := (
        select array_agg(format('%I', attname) order by place)
        from pg_index, unnest(indkey) with ordinality as k (number, place), pg_attribute
        where indrelid = format('public.%I', name)::regclass and indisprimary and attrelid = indrelid and attnum = number
    );
    columns text[] := (
        select array_agg(format('%I', attname) order by attnum) from pg_attribute
        where attrelid = format('public.%I', name)::regclass and attnum > 0 and not attisdropped
              and attname <> all (ignored)
    );
    wanted text := concat_ws(' and ', 'true',
        (select 'not (' || string_agg(format('%I = 0', s), ' and ') || ')' from unnest(sums) as s),
        case when from_order is not null then format('order_id >= %L and order_id < %L', from_order, to_order) end);
begin
    return query execute format(
        'select concat_ws('' '', %1$s), to_jsonb(l) - $1, to_jsonb(r) - $1, count(*) over ()
         from (select * from public.%2$I where %3$s) l full join (select * from replay.%2$I where %3$s) r using (%1$s)
         where row(%4$s) is distinct from row(%5$s) limit $2',
        array_to_string(keys, ', '), name, wanted,
        (select string_agg('l.' || c, ', ') from unnest(columns) as c),
        (select string_agg('r.' || c, ', ') from unnest(columns) as c)
    ) using ignored, most;
end $$;

-- The rows of a replayed table, at most so many.
create function replay_rows(name text, most bigint) returns setof jsonb language plpgsql as $$
begin
    return query execute format('select to_jsonb(r) from replay.%I r limit $1', name) using most;
end $$;

-- What a table looks like to whoever writes to it.
create function replay_columns(of_table regclass) returns text language sql as $$
    select string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull), ', ' order by attnum)
    from pg_attribute where attrelid = of_table and attnum > 0 and not attisdropped
$$;

-- Puts the replayed tables in the place of the live ones. A reader who is at work is not made to wait behind a lock
-- that waits itself: either all are free at once, or it is tried again.
create function replay_exchange(wanted text[]) returns void language plpgsql as $$
declare
    name text;
    deadline timestamptz := clock_timestamp() + interval '30 seconds';
begin
    loop
        begin
            foreach name in array wanted loop
                execute format('lock table public.%I in access exclusive mode nowait', name);
            end loop;
            exit;
        exception when lock_not_available then
            if clock_timestamp() > deadline then
                raise;
            end if;
            perform pg_sleep(0.02 * random());
        end;
    end loop;
    foreach name in array wanted loop
        if replay_columns(format('public.%I', name)::regclass) <> replay_columns(format('replay.%I', name)::regclass) then
            raise exception 'the table % was changed by a migration since the replay began', name;
        end if;
        execute format('drop table public.%I', name);
        execute format('alter table replay.%I set schema public', name);
    end loop;
end $$;
