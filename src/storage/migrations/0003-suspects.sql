-- Steps that took a worker or a process with them, until they are committed or set aside. docs/protocol.md, "Steps that do not end".

-- One row a record or timer that was being stepped when its worker ended. A reason to look, never a verdict: that is in the journal.
create table lockstep.suspect (
  instance uuid not null references lockstep.instance (id),
  shard    integer not null,
  target   text not null,             -- ["r",topic,offset] or ["i",actor type,key,timer id,due], as JSON
  replay   boolean not null,          -- it was stepped again, after it had been committed
  attempts integer not null check (attempts >= 0),
  code     text not null,             -- how the latest attempt ended: STEP_TIMEOUT, STEP_OUT_OF_MEMORY, STEP_CRASHED
  first_at timestamptz not null default clock_timestamp(),
  last_at  timestamptz not null default clock_timestamp(),
  primary key (instance, shard, target, replay)
);

-- How often in a row a shard was taken over, at the same seq, from an owner that had not released it.
create table lockstep.unclean_end (
  instance uuid not null references lockstep.instance (id),
  shard    integer not null,
  seq      bigint not null,
  ends     integer not null,
  primary key (instance, shard)
);
