-- What several nodes on one database need: a secret to know each other's messages by, and room for long ones.

create table ngos_cluster (
    one boolean primary key default true check (one),
    -- Who can read this table is one of us; who can only reach the bus between us is not.
    secret bytea not null default
        decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
);

insert into ngos_cluster default values;

-- Messages that are too long for NOTIFY, for the minute in which they are of use. Unlogged: none is needed again.
create unlogged table parcels (
    parcel_id bigint generated always as identity primary key,
    message text not null,
    created_at timestamptz not null default now()
);

create index parcels_oldest on parcels (created_at);
