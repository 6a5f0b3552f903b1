-- Which database this log was last written in: where that changes, it was restored, and has gone back.

create table ngos_identity (
    one boolean primary key default true check (one),
    -- As text, each null where it could not be asked for; see ngos/postgres/identity.py.
    system_identifier text,
    timeline text,
    database_oid text,
    topics_oid text,
    -- Why a server that ran saw that the log had gone back under it: the next start gives new epochs.
    doubt text,
    noted_at timestamptz not null default now()
);
