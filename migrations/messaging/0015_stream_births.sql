-- Which stream the archive is about, by the time at which it was made: one made anew holds nothing of the old one.
create table outbox_streams (
    stream text   primary key,
    -- Microseconds since 1970, by the broker's clock.
    born   bigint not null
);
