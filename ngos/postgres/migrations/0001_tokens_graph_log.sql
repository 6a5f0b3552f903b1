-- Tokens, edges, experience, and the log of events that their changes commit with.

create table topics (
    topic_id integer generated always as identity primary key,
    topic text not null unique,
    -- Unique, so that epoch and seq together name an event.
    epoch text not null unique default substr(md5(gen_random_uuid()::text), 1, 8),
    seq bigint not null default 0
);

insert into topics (topic) values ('experience'), ('graph'), ('tokens');

create table events (
    topic_id integer not null references topics,
    seq bigint not null,
    type text not null,
    sender_id text,
    created_at timestamptz not null,
    -- json, not jsonb: what is replayed has the bytes of what went out live.
    payload json not null,
    primary key (topic_id, seq)
);

create table tokens (
    token_id uuid primary key,
    type text not null,
    weight double precision not null,
    flags bigint not null,
    x double precision[] not null,
    y double precision[] not null,
    z double precision[] not null,
    -- json, not jsonb: nothing is searched inside, and \u0000 is legal there.
    metadata json not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index tokens_newest on tokens (created_at desc, token_id desc);
create index tokens_newest_of_type on tokens (type, created_at desc, token_id desc);

create table edges (
    connection_id uuid primary key,
    source_id uuid not null references tokens,
    target_id uuid not null references tokens,
    type text not null,
    weight double precision not null,
    bidirectional boolean not null,
    metadata json not null,
    created_at timestamptz not null default now(),
    constraint edges_once unique (source_id, target_id, type),
    constraint edges_no_loop check (source_id <> target_id)
);

create index edges_of_target on edges (target_id);

-- The last number given out in each trajectory.
create table trajectories (
    trajectory_id text primary key,
    sequence_number bigint not null
);

create table experiences (
    event_id uuid primary key,
    event_type text not null,
    -- No foreign key: what was lived through outlives the token.
    token_id uuid,
    state_before json,
    state_after json,
    action json,
    reward double precision not null,
    priority double precision not null,
    trajectory_id text,
    sequence_number bigint,
    metadata json not null,
    created_at timestamptz not null default now()
);

create index experiences_newest on experiences (created_at desc, event_id desc);
create index experiences_newest_of_type on experiences (event_type, created_at desc, event_id desc);
create index experiences_newest_of_token on experiences (token_id, created_at desc, event_id desc)
    where token_id is not null;
create index experiences_newest_of_trajectory on experiences (trajectory_id, created_at desc, event_id desc)
    where trajectory_id is not null;
