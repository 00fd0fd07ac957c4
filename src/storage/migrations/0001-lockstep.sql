-- The tables of the commit protocol. docs/protocol.md has the words: instance, shard, epoch, token, seq, confirmed, redo.
--
-- SQLSTATEs raised here, all before anything of the transaction can take effect:
--   LK001  another token stands in the shard row: the caller has lost the shard
--   LK002  token and epoch are the caller's, seq is not: commits that were acknowledged are gone, or a bug
--   LK003  an invariant of the protocol would be broken: positions or stream time would fall, ...

create table lockstep.instance (
  id                         uuid primary key,
  app                        text not null,
  name                       text not null,
  kafka_cluster_id           text not null,
  group_id                   text not null,
  database_system_identifier text not null,
  created_at                 timestamptz not null default now(),
  constraint instance_app_name unique (app, name),
  constraint instance_group unique (kafka_cluster_id, group_id)
);

create table lockstep.input (
  instance   uuid not null references lockstep.instance (id),
  topic      text not null,
  position   integer not null, -- in the order of definition, from 0: it breaks ties between inputs
  partitions integer not null check (partitions > 0),
  primary key (instance, topic),
  unique (instance, position)
);

-- One row a shard, updated by every commit: no index on what changes and mostly empty pages, so that updates stay in the page.
create table lockstep.shard (
  instance          uuid not null references lockstep.instance (id),
  shard             integer not null check (shard >= 0),
  epoch             bigint not null default 0,
  token             uuid,
  owner             text,                       -- host/pid/worker; null after a graceful release
  seq               bigint not null default 0,  -- P
  confirmed         bigint not null default 0,  -- c
  positions         jsonb,                      -- topic -> next offset to take, as decimal text; null until the start is fixed
  stream_time_ms    bigint not null default 0,  -- says nothing while seq = 0
  snapshot_seq      bigint not null default 0,
  snapshot_token    uuid,                       -- null: no snapshot
  transactional_ids text[] not null default '{}',
  code              text,
  app_version       integer,
  updated_at        timestamptz not null default now(),
  primary key (instance, shard),
  constraint shard_confirmed check (confirmed between 0 and seq),
  constraint shard_snapshot check (snapshot_seq between 0 and seq)
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create table lockstep.journal (
  instance       uuid not null,
  shard          integer not null,
  seq            bigint not null,
  token          uuid not null,
  epoch          bigint not null,
  code           text not null,
  stream_time_ms bigint not null,
  taken          integer not null,
  digest         text not null,
  body           json not null,  -- src/actors/journal.ts
  positions      jsonb not null,
  written_at     timestamptz not null default now(),
  primary key (instance, shard, seq)
);

create table lockstep.redo (
  instance uuid not null,
  shard    integer not null,
  seq      bigint not null,
  payload  bytea not null,
  primary key (instance, shard, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
-- Written once, read only after a crash: compressing it would be paid by every commit.
alter table lockstep.redo alter column payload set storage external;

create table lockstep.snapshot (
  instance       uuid not null,
  shard          integer not null,
  seq            bigint not null,
  token          uuid not null,
  pieces         integer not null,
  bytes          bigint not null,
  digest         text not null,
  code           text not null,
  app_version    integer not null,
  stream_time_ms bigint not null,
  positions      jsonb not null,
  counters       jsonb not null,
  published_at   timestamptz not null default clock_timestamp(),
  primary key (instance, shard, seq, token)
);

create table lockstep.snapshot_piece (
  instance uuid not null,
  shard    integer not null,
  seq      bigint not null,
  token    uuid not null,
  piece    integer not null check (piece >= 0),
  data     bytea not null,
  primary key (instance, shard, seq, token, piece)
);
alter table lockstep.snapshot_piece alter column data set storage external;

-- True when an input of `old` is missing from `new`, or stands lower there, or `new` has an input more.
create function lockstep.positions_fall(old jsonb, new jsonb) returns boolean
language sql immutable as $$
  select exists (
    select from jsonb_each_text(old) o full join jsonb_each_text(new) n on n.key = o.key
    where o.value is null or n.value is null or n.value::bigint < o.value::bigint)
$$;

-- Called after a guarded statement matched no row: says why, by an error. It sees what that statement waited for, because in a
-- volatile function under READ COMMITTED every statement takes a new view of the data.
create function lockstep.refuse(p_instance uuid, p_shard integer, p_token uuid, p_epoch bigint, p_seq bigint, p_otherwise text)
returns void language plpgsql as $$
declare
  r lockstep.shard;
  found_there text;
begin
  select * into r from lockstep.shard where instance = p_instance and shard = p_shard;
  found_there := json_build_object('token', r.token, 'epoch', r.epoch::text, 'seq', r.seq::text, 'owner', r.owner)::text;
  if r.instance is null then
    raise exception 'Shard % has no row.', p_shard using errcode = 'LK002', detail = found_there;
  elsif r.token is distinct from p_token then
    raise exception 'Shard % is held under another token since epoch %.', p_shard, r.epoch using errcode = 'LK001', detail = found_there;
  elsif r.epoch <> p_epoch or r.seq <> p_seq then
    raise exception 'Shard % stands at epoch %, seq %; its owner was told epoch %, seq %.', p_shard, r.epoch, r.seq, p_epoch, p_seq
      using errcode = 'LK002', detail = found_there;
  end if;
  raise exception 'Shard %: %.', p_shard, p_otherwise using errcode = 'LK003', detail = found_there;
end
$$;

-- First statement of every guarded transaction but a commit: locks the row, or raises.
create function lockstep.guard(p_instance uuid, p_shard integer, p_token uuid, p_epoch bigint, p_seq bigint)
returns void language plpgsql as $$
begin
  perform from lockstep.shard
    where instance = p_instance and shard = p_shard and token = p_token and epoch = p_epoch and seq = p_seq
    for no key update;
  if not found then
    perform lockstep.refuse(p_instance, p_shard, p_token, p_epoch, p_seq, 'the row changed while it was read');
  end if;
end
$$;

-- First statement of a commit. After it, rows of the app follow in the same transaction.
create function lockstep.commit_shard(
  p_instance uuid, p_shard integer, p_token uuid, p_epoch bigint, p_seq bigint,
  p_positions jsonb, p_stream_time_ms bigint, p_confirmed bigint, p_code text, p_app_version integer,
  p_body json, p_taken integer, p_digest text, p_redo bytea)
returns void language plpgsql as $$
declare
  confirmed_now bigint;
begin
  update lockstep.shard set
    seq = p_seq,
    positions = p_positions,
    stream_time_ms = p_stream_time_ms,
    confirmed = greatest(confirmed, p_confirmed),
    code = p_code,
    app_version = p_app_version,
    updated_at = now()
  where instance = p_instance and shard = p_shard and token = p_token and epoch = p_epoch and seq = p_seq - 1
    and (seq = 0 or stream_time_ms <= p_stream_time_ms)
    and positions is not null and not lockstep.positions_fall(positions, p_positions)
    and p_confirmed < p_seq
  returning confirmed into confirmed_now;
  if not found then
    perform lockstep.refuse(p_instance, p_shard, p_token, p_epoch, p_seq - 1, format(
      'commit %s has positions %s (none may fall, all inputs must be there, the start must have been fixed), stream time %s (it may not fall), confirmed %s (it must be lower than the commit)',
      p_seq, p_positions, p_stream_time_ms, p_confirmed));
  end if;
  insert into lockstep.journal (instance, shard, seq, token, epoch, code, stream_time_ms, taken, digest, body, positions)
    values (p_instance, p_shard, p_seq, p_token, p_epoch, p_code, p_stream_time_ms, p_taken, p_digest, p_body, p_positions);
  insert into lockstep.redo (instance, shard, seq, payload) values (p_instance, p_shard, p_seq, p_redo);
  delete from lockstep.redo where instance = p_instance and shard = p_shard and seq <= confirmed_now;
end
$$;

-- A statement of its own. Writing a piece again is harmless: nobody reads it before the pointer is flipped.
create function lockstep.write_snapshot_piece(
  p_instance uuid, p_shard integer, p_token uuid, p_epoch bigint, p_seq bigint, p_piece integer, p_data bytea)
returns void language plpgsql as $$
declare
  standing bigint;
begin
  insert into lockstep.snapshot_piece (instance, shard, seq, token, piece, data)
    select p_instance, p_shard, p_seq, p_token, p_piece, p_data
    from lockstep.shard s
    where s.instance = p_instance and s.shard = p_shard and s.token = p_token and s.epoch = p_epoch and s.seq >= p_seq
      and not exists (select from lockstep.snapshot m
        where m.instance = p_instance and m.shard = p_shard and m.seq = p_seq and m.token = p_token)
  on conflict (instance, shard, seq, token, piece) do update set data = excluded.data;
  if not found then
    select greatest(seq, p_seq) into standing from lockstep.shard where instance = p_instance and shard = p_shard;
    perform lockstep.refuse(p_instance, p_shard, p_token, p_epoch, standing, format('snapshot %s is published already', p_seq));
  end if;
end
$$;
