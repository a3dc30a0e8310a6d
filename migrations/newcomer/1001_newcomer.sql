-- One row for whatever the events heard are about, an order or an article. That no event counts twice is the promise of
-- the inbox, in the same transaction; the version lets the later of two racing replicas notice, and run again.
create table accounts (
    subject text   primary key,
    points  bigint not null,
    version bigint not null
);
