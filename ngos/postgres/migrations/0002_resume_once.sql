-- What resuming and sending twice need: where the log begins, and the replies that were given.

-- Events up to this one are gone, or about to be: nobody is told any more that they can be had.
alter table topics add column pruned bigint not null default 0;

-- The reply to each command that carried an id, written in the transaction of the command's change.
create table replies (
    subject text not null,
    command_id text not null,
    command_hash uuid not null,
    type text not null,
    -- JSON, as text: it is only ever handed out again, and need not be read for that.
    payload text not null,
    -- The first event of the change; null where there was none, as when it was refused.
    topic_id integer,
    seq bigint,
    created_at timestamptz not null,
    primary key (subject, command_id)
);

create index replies_oldest on replies (created_at);
